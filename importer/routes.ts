import type { FastifyInstance, FastifyReply } from 'fastify'
import { z } from 'zod'
import { CodedError } from '../core/errors.ts'
import { parseImageReference } from '../core/reference.ts'
import type { Images } from './images.ts'
import { importStates, newImportSchema, type ImportRecord } from './import-record.ts'
import type { Imports } from './imports.ts'
import { openApiDocument } from './openapi.ts'

export interface ImageApiDeps {
  readonly images: Images
  readonly imports: Imports
  /** Ends event streams when the server stops. */
  readonly stopping: AbortSignal
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
  { images, imports, stopping }: ImageApiDeps,
): void {
  app.get('/v1/openapi.json', () => openApiDocument())

  app.post('/v1/imports', async (request, reply) => {
    const body = parse(newImportSchema, request.body, 'the body')
    const headers = parse(idempotencyHeader, request.headers, 'the header Idempotency-Key')
    const record = await imports.create(body, { idempotencyKey: headers['idempotency-key'] })
    return reply.code(202).header('location', `/v1/imports/${record.id}`).send(record)
  })
  app.get('/v1/imports', async (request) => ({
    imports: await imports.list(parse(listImportsQuery, request.query, 'the query')),
  }))
  app.get('/v1/imports/:id', (request) => imports.get(parse(importParams, request.params, 'id').id))
  app.delete('/v1/imports/:id', (request) =>
    imports.cancel(parse(importParams, request.params, 'id').id),
  )
  app.get('/v1/imports/:id/events', async (request, reply) => {
    const { id } = parse(importParams, request.params, 'id')
    // Answers 404 before the stream starts.
    await imports.get(id)
    const signal = AbortSignal.any([request.signal, stopping])
    await sendEvents(reply, imports.watch(id, { signal }), signal)
  })

  app.get('/v1/images', async (request) => ({
    images: await images.list(parse(listImagesQuery, request.query, 'the query')),
  }))
  app.get('/v1/image/:image', (request) => {
    const { image } = parse(imageParams, request.params, 'image')
    return images.get(parseImageReference(image))
  })
  app.delete('/v1/image/:image', async (request, reply) => {
    const { image } = parse(imageParams, request.params, 'image')
    await images.delete(parseImageReference(image))
    return reply.code(204).send()
  })
  app.put('/v1/image/:image/tags/:tag', async (request, reply) => {
    const { image, tag } = parse(tagParams, request.params, 'image and tag')
    const { replace } = parse(tagQuery, request.query, 'the query')
    const record = await images.tag(parseImageReference(image), tag, { replace })
    return reply.code(201).send(record)
  })
}

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
