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

/** Names of all repositories that hold a manifest and that the caller may pull, in byte order. */
export const listRepositories: Handler<'catalog'> = async (call) => {
  const repositories = await page(call, (asked) => listVisible(call, asked), catalogPage)
  return call.reply.send({ repositories })
}

async function listVisible(
  { store, access }: Call<'catalog'>,
  { last, limit = Infinity }: Page,
): Promise<string[]> {
  const visible: string[] = []
  let after = last
  // Pages grow where the caller sees few, so that a page of a few names stays cheap for others.
  for (let asked = limit; visible.length < limit; asked = Math.min(asked * 2, catalogPage)) {
    const found = await store.registry.listRepositories({ last: after, limit: asked })
    visible.push(...found.filter((name) => access.mayFind(name)))
    after = found.at(-1)
    if (found.length < asked) break
  }
  return visible.slice(0, limit)
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
    // As the client asked, with `ns` where it did: not the URL that stands for it.
    const next = new URL(request.originalUrl, 'http://localhost')
    next.searchParams.set('n', String(size))
    next.searchParams.set('last', last)
    reply.header('link', `<${next.pathname}${next.search}>; rel="next"`)
  }
  return shown
}
