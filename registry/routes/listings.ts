import { CodedError } from '../../core/errors.ts'
import type { Page } from '../../core/registry.ts'
import { queryValue, type Call, type Handler } from './context.ts'

/** Names of one answer where the client does not say; a repository's tags are always all. */
const catalogPage = 1000

/** @see OCI distribution-spec §listing-tags */
export const listTags: Handler<'tags'> = async (call) => {
  const repository = call.store.registry.repository(call.target.name)
  const tags = await page(call, (asked) => repository.listTags(asked), Infinity)
  return call.reply.send({ name: repository.name, tags })
}

/** Names of all repositories that hold a manifest, in byte order, in pages. */
export const listRepositories: Handler<'catalog'> = async (call) => {
  const { registry } = call.store
  const repositories = await page(call, (asked) => registry.listRepositories(asked), catalogPage)
  return call.reply.send({ repositories })
}

/** Asks for one more than is shown, to know whether there is a next page. */
async function page(
  { request, reply }: Call<'tags'> | Call<'catalog'>,
  list: (asked: Page) => Promise<string[]>,
  defaultSize: number,
): Promise<string[]> {
  const text = queryValue(request, 'n')
  if (text !== undefined && !/^\d{1,9}$/.test(text)) {
    throw new CodedError('REQUEST_INVALID', `n is not a number of entries: ${text.slice(0, 100)}`)
  }
  const size = text === undefined ? defaultSize : Number(text)
  const found = await list({ last: queryValue(request, 'last'), limit: size + 1 })
  const shown = found.slice(0, size)
  const last = shown.at(-1)
  if (found.length > size && last !== undefined) {
    const query = new URLSearchParams({ n: String(size), last })
    reply.header('link', `<${request.url.split('?', 1)[0]}?${query.toString()}>; rel="next"`)
  }
  return shown
}
