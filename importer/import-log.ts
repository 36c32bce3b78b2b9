import { createHash } from 'node:crypto'
import type { ObjectStore } from '../core/object-store.ts'
import type { Log } from '../core/log.ts'
import {
  finishedBefore,
  storedImportSchema,
  type ImportRecord,
  type StoredImport,
} from './import-record.ts'

const folder = 'v1/imports/'

/** The kept records of imports, one small object each. */
export interface ImportLog {
  /** All that are kept; those finished before `olderThan` are removed. */
  load(olderThan: Date): Promise<StoredImport[]>
  /** `undefined` where there is no such record. */
  read(id: string): Promise<StoredImport | undefined>
  save(stored: StoredImport): Promise<void>
  /** Makes the runner `to` the one that runs it, where it still is the runner `from`. */
  adopt(
    id: string,
    runners: { readonly from: string | undefined; readonly to: string },
    change?: Partial<ImportRecord>,
  ): Promise<StoredImport | undefined>
  remove(id: string): Promise<void>
}

/** Key of what says which process takes the first request of an Idempotency-Key. */
export function claimOf(idempotencyKey: string): string {
  return `v1/imports-keys/${createHash('sha256').update(idempotencyKey).digest('hex')}`
}

export function createImportLog(objects: ObjectStore, log: Log): ImportLog {
  const keyOf = (id: string): string => `${folder}${id}.json`

  async function readKey(key: string): Promise<StoredImport | undefined> {
    const object = await objects.get(key)
    return object && decode(key, object.bytes)
  }

  function decode(key: string, bytes: Uint8Array): StoredImport | undefined {
    const parsed = storedImportSchema.safeParse(parseJson(bytes))
    if (parsed.success) return parsed.data
    log.warn({ key, reason: parsed.error.message }, 'import record is unreadable, left out')
    return undefined
  }

  // Whatever else has ended may begin anew.
  const finished = new Map<string, StoredImport>()

  async function remembered(key: string): Promise<StoredImport | undefined> {
    const stored = finished.get(key) ?? (await readKey(key))
    if (stored?.record.state === 'succeeded') finished.set(key, stored)
    return stored
  }

  return {
    read: (id) => remembered(keyOf(id)),
    async load(olderThan) {
      const kept: StoredImport[] = []
      for (const key of await objects.list(folder, {})) {
        const stored = await remembered(key)
        if (!stored) continue
        if (finishedBefore(stored.record, olderThan)) {
          await objects.delete(key)
          finished.delete(key)
          if (stored.idempotencyKey) await objects.delete(claimOf(stored.idempotencyKey))
        } else kept.push(stored)
      }
      return kept
    },
    async save(stored) {
      const bytes = Buffer.from(JSON.stringify(stored))
      await objects.put(keyOf(stored.record.id), bytes, 'always')
    },
    async adopt(id, { from, to }, change = {}) {
      const key = keyOf(id)
      const current = await objects.get(key)
      const stored = current && decode(key, current.bytes)
      if (!stored || stored.runner !== from) return undefined
      const adopted = { ...stored, record: { ...stored.record, ...change }, runner: to }
      const bytes = Buffer.from(JSON.stringify(adopted))
      const etag = await objects.put(key, bytes, { ifMatch: current.etag })
      return etag === undefined ? undefined : adopted
    },
    async remove(id) {
      await objects.delete(keyOf(id))
      finished.delete(keyOf(id))
    },
  }
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString())
  } catch {
    // The schema then refuses it with a reason.
    return undefined
  }
}
