import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Access, Action } from '../core/access.ts'
import { CodedError } from '../core/errors.ts'
import { parseImageReference, parseName, type ImageReference } from '../core/reference.ts'
import type { StoredImages } from './images.ts'
import { importStates, newImportSchema, type ImportRecord } from './import-record.ts'
import type { Imports } from './imports.ts'
import { credentialsSchema } from './sources/credentials.ts'
import { storedImageOf } from './sources/source-address.ts'
import { openApiDocument } from './openapi.ts'

export interface ImageApiDeps {
  readonly images: StoredImages
  readonly imports: Imports
  /** Ends event streams when the server stops. */
  readonly stopping: AbortSignal
  /** What the sender of a request may do. */
  readonly accessOf: (request: FastifyRequest) => Access
}

const listImportsQuery = z.strictObject({
  state: z.enum(importStates).optional(),
  name: z.string().optional(),
  limit: z.coerce.number().int().min(1).max(1000).optional(),
})
const listImagesQuery = z.strictObject({ name: z.string().optional() })
const tagQuery = z.strictObject({ replace: z.stringbool().default(false) })
const importParams = z.object({ id: z.string() })
const imageParams = z.object({ image: z.string() })
const tagParams = z.object({ image: z.string(), tag: z.string() })
const idempotencyHeader = z.object({ 'idempotency-key': z.string().min(1).max(255).optional() })

/** Registers `/v1/`: the image API as `/v1/openapi.json` describes it. */
export function registerImageApi(
  app: FastifyInstance,
  { images, imports, stopping, accessOf }: ImageApiDeps,
): void {
  // Anybody may ask for it, as often as they like.
  const openApi = openApiDocument()
  app.get('/v1/openapi.json', { config: { access: 'open' } }, () => openApi)
  // Which image it is about stands in the path, the query, the body or a record.
  const routed = { config: { access: 'by-handler' } } as const
  const demand = (request: FastifyRequest, action: Action, text: string): ImageReference => {
    const image = parseImageReference(text)
    accessOf(request).demand(action, image.name)
    return image
  }
  const demandImport = async (request: FastifyRequest, action: Action): Promise<ImportRecord> => {
    const record = await imports.get(parse(importParams, request.params, 'id').id)
    accessOf(request).demand(action, record.name)
    return record
  }

  const before = {
    onRequest: async (request: FastifyRequest) => accessOf(request).demandSome('push'),
  }
  app.post('/v1/imports', { ...routed, ...before }, async (request, reply) => {
    const body = parse(newImportSchema, request.body, 'the body')
    const access = accessOf(request)
    access.demand('push', parseName(body.name))
    const stored = storedImageOf(body.source)
    if (stored) access.demand('pull', stored.name)
    const { 'idempotency-key': key } = parse(
      idempotencyHeader,
      request.headers,
      'the header Idempotency-Key',
    )
    const record = await imports.create(body, {
      idempotencyKey: key && keyOf(access.caller, key),
      mayPull: (name) => access.mayFind(name),
    })
    return reply.code(202).header('location', `/v1/imports/${record.id}`).send(record)
  })
  app.get('/v1/imports', routed, async (request) => {
    const { limit = 100, ...query } = parse(listImportsQuery, request.query, 'the query')
    const access = accessOf(request)
    access.demandSome('pull')
    const found = await imports.list({ ...query, limit: Infinity })
    return { imports: found.filter(({ name }) => access.may('pull', name)).slice(0, limit) }
  })
  app.get('/v1/imports/:id', routed, (request) => demandImport(request, 'pull'))
  app.delete('/v1/imports/:id', routed, async (request) => {
    const { id } = await demandImport(request, 'push')
    return imports.cancel(id)
  })
  app.post('/v1/imports/:id/pause', routed, async (request) => {
    const { id } = await demandImport(request, 'push')
    return imports.pause(id)
  })
  app.post('/v1/imports/:id/retry', routed, async (request) => {
    const { id } = await demandImport(request, 'push')
    return imports.retry(id)
  })
  app.put('/v1/imports/:id/credentials', routed, async (request) => {
    const { id } = await demandImport(request, 'push')
    const credentials = parse(credentialsSchema, request.body, 'the body')
    return imports.giveCredentials(id, credentials)
  })
  app.get('/v1/imports/:id/events', routed, async (request, reply) => {
    // Answers 404 before the stream starts.
    const { id } = await demandImport(request, 'pull')
    const signal = AbortSignal.any([request.signal, stopping])
    await sendEvents(reply, imports.watch(id, { signal }), signal)
  })

  app.get('/v1/images', routed, async (request) => {
    const query = parse(listImagesQuery, request.query, 'the query')
    const access = accessOf(request)
    if (query.name !== undefined) access.demand('pull', query.name)
    access.demandSome('pull')
    return { images: await images.list({ ...query, isShown: (name) => access.may('pull', name) }) }
  })
  app.get('/v1/image/:image', routed, (request) => {
    const { image } = parse(imageParams, request.params, 'image')
    return images.get(demand(request, 'pull', image))
  })
  app.delete('/v1/image/:image', routed, async (request, reply) => {
    const { image } = parse(imageParams, request.params, 'image')
    await images.delete(demand(request, 'delete', image))
    return reply.code(204).send()
  })
  app.put('/v1/image/:image/tags/:tag', routed, async (request, reply) => {
    const { image, tag } = parse(tagParams, request.params, 'image and tag')
    const { replace } = parse(tagQuery, request.query, 'the query')
    const record = await images.tag(demand(request, 'push', image), tag, { replace })
    return reply.code(201).send(record)
  })
}

/** Nobody can take, or find out, the key of another caller. */
const keyOf = (caller: string, key: string): string =>
  caller === 'anonymous' ? key : `${caller} ${key}`

const heartbeatMs = 15_000

/** Server-sent events: one `import` event per record. @see WHATWG HTML §9.2 */
async function sendEvents(
  reply: FastifyReply,
  records: AsyncIterable<ImportRecord>,
  signal: AbortSignal,
): Promise<void> {
  reply.hijack()
  const out = reply.raw
  out.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
  // A queued import may stand still for long; clients and proxies give up on silence.
  using cleanup = new DisposableStack()
  const heartbeat = setInterval(() => out.write(': still here\n\n'), heartbeatMs)
  cleanup.defer(() => clearInterval(heartbeat))
  for await (const record of records) {
    const more = out.write(`event: import\ndata: ${JSON.stringify(record)}\n\n`)
    if (!more && !signal.aborted) {
      await new Promise<void>((resolve) => {
        out.once('drain', resolve)
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    }
    if (signal.aborted) break
  }
  out.end()
}

function parse<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  what: string,
): z.output<Schema> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw new CodedError(
    'REQUEST_INVALID',
    `${what} is not as /v1/openapi.json says: ${z.prettifyError(result.error)}`,
  )
}
