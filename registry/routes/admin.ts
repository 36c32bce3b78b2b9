import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { CodedError } from '../../core/errors.ts'
import type { Bytes } from '../../core/streams.ts'
import type { Admin } from '../admin/admin.ts'
import type { FloorSpeed } from '../http/floor-speed.ts'
import { readBody } from '../http/request-body.ts'
import { sendBody } from '../http/response-body.ts'
import { eventLines } from './event-lines.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The handler reads it, at any length, as it comes. */
    body?: 'stream'
  }
}

export interface AdminRoutesOptions {
  readonly admin: Admin
  readonly speed: FloorSpeed
}

const gcBody = z.strictObject({
  dryRun: z.boolean().default(false),
  wait: z.boolean().default(false),
})
const fsckBody = z.strictObject({ dataDigests: z.boolean().default(false) })
const scrubBody = z.strictObject({ bytesPerSecond: z.number().positive() })
const importQuery = z.strictObject({ replace: z.stringbool().default(false) })
const repositoryParams = z.object({ name: z.string() })

/**
 * `/v1/registry/`: what operators do, for who administers everything. What takes long answers with
 * lines of JSON, one for each event, and ends when its client goes.
 */
export function registerAdmin(app: FastifyInstance, { admin, speed }: AdminRoutesOptions): void {
  type Work = (signal: AbortSignal) => AsyncIterable<unknown>

  function sendEvents(request: FastifyRequest, reply: FastifyReply, work: Work): Promise<void> {
    reply.header('content-type', 'application/x-ndjson').header('cache-control', 'no-store')
    const onFailure = (error: unknown): void =>
      request.log.error({ err: error }, 'an operation of an administrator failed')
    const lines = (signal: AbortSignal): Bytes => eventLines(work(signal), { onFailure })
    return sendBody(lines, { request, reply, speed, onSent: () => {} })
  }

  app.get('/v1/registry/gc', () => admin.gc.state())
  app.post('/v1/registry/gc', (request, reply) => {
    const options = parse(gcBody, request.body ?? {})
    return sendEvents(request, reply, (signal) => admin.gc.run({ ...options, signal }))
  })

  app.post('/v1/registry/fsck', (request, reply) => {
    const options = parse(fsckBody, request.body ?? {})
    return sendEvents(request, reply, (signal) => admin.fsck({ ...options, signal }))
  })

  app.get('/v1/registry/scrub', () => admin.scrub.state())
  app.post('/v1/registry/scrub', (request, reply) => {
    const options = parse(scrubBody, request.body ?? {})
    return sendEvents(request, reply, (signal) => admin.scrub.run({ ...options, signal }))
  })
  app.get('/v1/registry/quarantine', async () => ({ blobs: await admin.scrub.list() }))
  app.delete('/v1/registry/quarantine', () => admin.scrub.purge())

  app.get('/v1/registry/repositories', (request, reply) =>
    sendEvents(request, reply, async function* (signal) {
      for await (const repository of admin.repositories.list(signal)) yield { repository }
      yield { end: true }
    }),
  )
  app.get('/v1/registry/repository/:name', (request) =>
    admin.repositories.describe(parse(repositoryParams, request.params).name),
  )
  app.delete('/v1/registry/repository/:name', (request) =>
    admin.repositories.remove(parse(repositoryParams, request.params).name),
  )

  app.get('/v1/registry/quotas', async () => ({ quotas: await admin.quotas.list() }))
  app.post('/v1/registry/quotas/recount', async () => ({ isExact: await admin.quotas.recount() }))

  app.get('/v1/registry/export', (request, reply) => {
    reply.header('content-type', 'application/x-tar').header('cache-control', 'no-store')
    const read = (signal: AbortSignal): Bytes => admin.archive.export(signal)
    return sendBody(read, { request, reply, speed, onSent: () => {} })
  })
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null))
    scope.post('/v1/registry/import', { config: { body: 'stream' } }, (request, reply) => {
      const { replace } = parse(importQuery, request.query)
      const body = readBody(request, reply, speed)
      const work: Work = (signal) => admin.archive.import(body, { replace, signal })
      return sendEvents(request, reply, work)
    })
  })
}

function parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const why = z.prettifyError(result.error)
  throw new CodedError('REQUEST_INVALID', `not as docs/operations.md says: ${why}`)
}
