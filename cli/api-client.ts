import { errors, type Dispatcher } from 'undici'
import { z } from 'zod'
import { CodedError, hasErrno } from '../core/errors.ts'
import type { HttpClient, SendOptions } from '../core/http-client.ts'
import { formatImageReference, type ImageReference } from '../core/reference.ts'
import { imageRecordSchema, type Images } from '../importer/images.ts'
import { importRecordSchema, isFinished, type ImportRecord } from '../importer/import-record.ts'
import type { Imports } from '../importer/imports.ts'

const importsSchema = z.object({ imports: z.array(importRecordSchema) })
const imagesSchema = z.object({ images: z.array(imageRecordSchema) })

/** The image API of a server, behind the interfaces that the server itself implements. */
export function createApiClient(http: HttpClient): { images: Images; imports: Imports } {
  async function call<Schema extends z.ZodType>(
    schema: Schema,
    path: string,
    options: SendOptions,
  ): Promise<z.output<Schema>> {
    const response = await http.send(path, options)
    try {
      return schema.parse(await response.body.json())
    } catch (error) {
      throw new CodedError(
        'TARGET_UNAVAILABLE',
        `${http.base.origin} does not answer like a dvcr server of this version`,
        { cause: error },
      )
    }
  }
  const get = { method: 'GET', accept: [200] } as const
  const post = { method: 'POST', body: new Uint8Array(), accept: [200] } as const
  const imageAt = (image: ImageReference): string =>
    `/v1/image/${encodeURIComponent(formatImageReference(image))}`

  const images: Images = {
    async list({ name }) {
      const query = name === undefined ? '' : `?name=${encodeURIComponent(name)}`
      return (await call(imagesSchema, `/v1/images${query}`, get)).images
    },
    get: (image) => call(imageRecordSchema, imageAt(image), get),
    async delete(image) {
      const response = await http.send(imageAt(image), { method: 'DELETE', accept: [204] })
      await response.body.dump()
    },
    tag: (image, tag, { replace }) =>
      call(
        imageRecordSchema,
        `${imageAt(image)}/tags/${encodeURIComponent(tag)}?replace=${String(replace)}`,
        { method: 'PUT', accept: [201] },
      ),
  }

  const imports: Imports = {
    create: (request, { idempotencyKey }) =>
      call(importRecordSchema, '/v1/imports', {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
        },
        body: Buffer.from(JSON.stringify(request)),
        accept: [202],
      }),
    async list({ state, name, limit }) {
      const query = new URLSearchParams()
      if (state !== undefined) query.set('state', state)
      if (name !== undefined) query.set('name', name)
      if (limit !== undefined) query.set('limit', String(limit))
      return (await call(importsSchema, `/v1/imports?${query.toString()}`, get)).imports
    },
    get: (id) => call(importRecordSchema, `/v1/imports/${encodeURIComponent(id)}`, get),
    async *watch(id, { signal }) {
      const path = `/v1/imports/${encodeURIComponent(id)}/events`
      let last: ImportRecord | undefined
      let cause: unknown
      try {
        const response = await http.send(path, { ...get, signal })
        for await (const data of eventData(response.body)) {
          last = importRecordSchema.parse(JSON.parse(data))
          yield last
        }
      } catch (error) {
        signal.throwIfAborted()
        if (!isConnectionLost(error)) throw error
        cause = error
      }
      if (last && isFinished(last)) return
      throw new CodedError(
        'TARGET_UNAVAILABLE',
        `the connection to the server broke; import ${id} goes on, or will when the server is back: dvcr imports`,
        { cause },
      )
    },
    cancel: (id) =>
      call(importRecordSchema, `/v1/imports/${encodeURIComponent(id)}`, {
        method: 'DELETE',
        accept: [200],
      }),
    pause: (id) => call(importRecordSchema, `/v1/imports/${encodeURIComponent(id)}/pause`, post),
    retry: (id) => call(importRecordSchema, `/v1/imports/${encodeURIComponent(id)}/retry`, post),
    giveCredentials: (id, credentials) =>
      call(importRecordSchema, `/v1/imports/${encodeURIComponent(id)}/credentials`, {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: Buffer.from(JSON.stringify(credentials)),
        accept: [200],
      }),
  }
  return { images, imports }
}

function isConnectionLost(error: unknown): boolean {
  if (error instanceof CodedError) return error.code === 'TARGET_UNAVAILABLE'
  return error instanceof errors.UndiciError || hasErrno(error, 'ECONNRESET')
}

/** The `data` of each server-sent event; our server writes it on one line. */
async function* eventData(body: Dispatcher.ResponseData['body']): AsyncGenerator<string, void> {
  let rest = ''
  for await (const text of body.setEncoding('utf8')) {
    const lines = (rest + String(text)).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line.startsWith('data: ')) yield line.slice('data: '.length)
  }
}
