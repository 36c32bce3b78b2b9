import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { z } from 'zod'
import { importRecordSchema, isFinished, type ImportRecord } from '../../importer/import-record.ts'

/** What a test asks `POST /v1/imports` for. */
export interface WantedImport {
  readonly source: string
  readonly name: string
  readonly tag?: string
  readonly store?: 'auto' | 'as-is'
  readonly replace?: boolean
  readonly checksums?: Readonly<Record<string, string>>
  readonly checksumsUrl?: string
  readonly s3Endpoint?: string
  readonly credentials?: Readonly<Record<string, unknown>>
}

/** The imports of a server, asked over HTTP. */
export interface ImportsApi {
  /** The answer as it comes. */
  post(body: unknown, headers?: Readonly<Record<string, string>>): Promise<Response>
  /** Queues it; fails the test unless the server takes it. */
  create(wanted: WantedImport): Promise<ImportRecord>
  /** Queues it and waits for its end. */
  run(wanted: WantedImport): Promise<ImportRecord>
  /** Newest first. */
  list(query?: string): Promise<ImportRecord[]>
  get(id: string): Promise<ImportRecord>
  cancel(id: string): Promise<ImportRecord>
  /** The first record of it that is so. */
  until(id: string, isSo: (record: ImportRecord) => boolean): Promise<ImportRecord>
  finished(id: string): Promise<ImportRecord>
}

export function createImportsApi(url: string): ImportsApi {
  const imports = `${url}/v1/imports`
  const api: ImportsApi = {
    post: (body, headers = {}) =>
      fetch(imports, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify(body),
      }),
    async create(wanted) {
      const response = await api.post(wanted)
      const answer = await response.json()
      expect({ status: response.status, answer }).toMatchObject({ status: 202 })
      return importRecordSchema.parse(answer)
    },
    run: async (wanted) => api.finished((await api.create(wanted)).id),
    async list(query = '') {
      const answer = await (await fetch(`${imports}${query}`)).json()
      return z.object({ imports: z.array(importRecordSchema) }).parse(answer).imports
    },
    get: async (id) => importRecordSchema.parse(await (await fetch(`${imports}/${id}`)).json()),
    async cancel(id) {
      const response = await fetch(`${imports}/${id}`, { method: 'DELETE' })
      return importRecordSchema.parse(await response.json())
    },
    async until(id, isSo) {
      for (;;) {
        const record = await api.get(id)
        if (isSo(record)) return record
        if (isFinished(record)) throw new Error(`it ended as ${JSON.stringify(record)}`)
        await sleep(20)
      }
    },
    finished: (id) => api.until(id, isFinished),
  }
  return api
}

/** What the registry shows to everyone: each repository with its tags. */
export async function readVisible(url: string): Promise<Record<string, string[]>> {
  const catalogSchema = z.object({ repositories: z.array(z.string()) })
  const tagsSchema = z.object({ tags: z.array(z.string()) })
  const catalog = catalogSchema.parse(await (await fetch(`${url}/v2/_catalog`)).json())
  const visible: Record<string, string[]> = {}
  for (const name of catalog.repositories) {
    const tags = await (await fetch(`${url}/v2/${name}/tags/list`)).json()
    visible[name] = tagsSchema.parse(tags).tags
  }
  return visible
}
