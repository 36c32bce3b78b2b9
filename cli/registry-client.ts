import type { Dispatcher } from 'undici'
import { z } from 'zod'
import { CodedError, reportedError } from '../core/errors.ts'
import type { HttpClient, SendOptions } from '../core/http-client.ts'
import type { Admin } from '../registry/admin/admin.ts'
import { fsckEvent } from '../registry/admin/fsck.ts'
import { gcEvent, gcState } from '../registry/admin/gc-run.ts'
import { importEvent } from '../registry/admin/import.ts'
import { quarantinedBlob } from '../registry/admin/quarantine.ts'
import { removedRepository } from '../registry/admin/remove-repository.ts'
import { scrubEvent, scrubState } from '../registry/admin/scrub.ts'
import { repositoryDetail, repositoryUse } from '../registry/admin/usage.ts'

const quotaUse = z.object({
  prefix: z.string(),
  limitBytes: z.int(),
  usedBytes: z.int(),
  heldBytes: z.int(),
})
const repositoryEvent = z.union([
  z.object({ repository: repositoryUse }),
  z.object({ end: z.literal(true) }),
])
const failure = z.object({ error: z.object({ code: z.string(), message: z.string() }) })
const get = { method: 'GET', accept: [200] } as const
const ok = [200]

/** The operators' routes of a server, behind the interface that its store has. */
export function createAdminClient(http: HttpClient): Admin {
  const at = (path: string): string => `/v1/registry/${path}`
  const repositoryAt = (name: string): string => at(`repository/${encodeURIComponent(name)}`)

  async function call<Schema extends z.ZodType>(
    schema: Schema,
    path: string,
    options: SendOptions = get,
  ): Promise<z.output<Schema>> {
    const response = await http.send(path, options)
    return parse(schema, await response.body.text(), http)
  }

  async function* events<Schema extends z.ZodType>(
    schema: Schema,
    path: string,
    options: SendOptions,
  ): AsyncGenerator<z.output<Schema>, void> {
    const response = await http.send(path, options)
    try {
      for await (const line of linesOf(response.body)) {
        const event = parse(z.union([failure, schema]), line, http)
        const failed = failure.safeParse(event)
        if (failed.success) throw reported(failed.data.error)
        yield schema.parse(event)
      }
    } catch (error) {
      options.signal?.throwIfAborted()
      if (error instanceof CodedError) throw error
      throw broken(http, error)
    }
  }

  const post = (body: object, signal: AbortSignal): SendOptions => ({
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(body)),
    accept: ok,
    signal,
  })

  return {
    gc: {
      run: ({ signal, ...options }) => events(gcEvent, at('gc'), post(options, signal)),
      state: () => call(gcState, at('gc')),
    },
    fsck: ({ signal, ...options }) => events(fsckEvent, at('fsck'), post(options, signal)),
    scrub: {
      run: ({ signal, ...options }) => events(scrubEvent, at('scrub'), post(options, signal)),
      state: () => call(scrubState, at('scrub')),
      async list() {
        return (await call(z.object({ blobs: z.array(quarantinedBlob) }), at('quarantine'))).blobs
      },
      purge: () =>
        call(z.object({ blobs: z.int(), bytes: z.int() }), at('quarantine'), {
          method: 'DELETE',
          accept: ok,
        }),
    },
    archive: {
      async *export(signal) {
        const response = await http.send(at('export'), { ...get, signal })
        try {
          for await (const chunk of response.body) if (chunk instanceof Uint8Array) yield chunk
        } catch (error) {
          signal.throwIfAborted()
          throw broken(http, error)
        }
      },
      async *import(bytes, { replace, signal }) {
        // A body that is a stream is sent once only: who we are is settled before.
        await call(gcState, at('gc'))
        yield* events(importEvent, at(`import?replace=${String(replace)}`), {
          method: 'POST',
          headers: { 'content-type': 'application/octet-stream' },
          body: bytes,
          accept: ok,
          signal,
        })
      },
    },
    repositories: {
      async *list(signal) {
        for await (const event of events(repositoryEvent, at('repositories'), { ...get, signal })) {
          if ('end' in event) return
          yield event.repository
        }
        throw broken(http, undefined)
      },
      describe: (name) => call(repositoryDetail, repositoryAt(name)),
      remove: (name) =>
        call(removedRepository, repositoryAt(name), { method: 'DELETE', accept: ok }),
    },
    quotas: {
      async list() {
        return (await call(z.object({ quotas: z.array(quotaUse) }), at('quotas'))).quotas
      },
      async recount() {
        const options = { method: 'POST', accept: ok } as const
        return (await call(z.object({ isExact: z.boolean() }), at('quotas/recount'), options))
          .isExact
      },
    },
  }
}

function parse<Schema extends z.ZodType>(
  schema: Schema,
  text: string,
  { base }: HttpClient,
): z.output<Schema> {
  try {
    return schema.parse(JSON.parse(text))
  } catch (error) {
    throw new CodedError(
      'TARGET_UNAVAILABLE',
      `${base.origin} does not answer like a dvcr server of this version`,
      { cause: error },
    )
  }
}

function reported({ code, message }: { readonly code: string; readonly message: string }) {
  return reportedError(code, message, 'UNKNOWN')
}

function broken({ base }: HttpClient, cause: unknown): CodedError {
  return new CodedError(
    'TARGET_UNAVAILABLE',
    `the connection to ${base.origin} broke in the middle; run the command again`,
    { cause },
  )
}

/** The lines of a body; empty ones only say that the server is at work. */
async function* linesOf(body: Dispatcher.ResponseData['body']): AsyncGenerator<string, void> {
  let rest = ''
  for await (const text of body.setEncoding('utf8')) {
    const lines = (rest + String(text)).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line !== '') yield line
  }
}
