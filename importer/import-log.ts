import type { ObjectStore } from '../core/object-store.ts'
import type { Log } from '../core/log.ts'
import { finishedBefore, storedImportSchema, type StoredImport } from './import-record.ts'

const folder = 'v1/imports/'

/** The kept records of imports, one small object each. */
export interface ImportLog {
  /** All that are kept; those finished before `olderThan` are removed. */
  load(olderThan: Date): Promise<StoredImport[]>
  save(stored: StoredImport): Promise<void>
  remove(id: string): Promise<void>
}

export function createImportLog(objects: ObjectStore, log: Log): ImportLog {
  const keyOf = (id: string): string => `${folder}${id}.json`
  return {
    async load(olderThan) {
      const kept: StoredImport[] = []
      for (const key of await objects.list(folder, {})) {
        const object = await objects.get(key)
        if (!object) continue
        const parsed = storedImportSchema.safeParse(parseJson(object.bytes))
        if (!parsed.success) {
          log.warn({ key, reason: parsed.error.message }, 'import record is unreadable, left out')
          continue
        }
        if (finishedBefore(parsed.data.record, olderThan)) await objects.delete(key)
        else kept.push(parsed.data)
      }
      return kept
    },
    async save(stored) {
      const bytes = Buffer.from(JSON.stringify(stored))
      await objects.put(keyOf(stored.record.id), bytes, 'always')
    },
    async remove(id) {
      await objects.delete(keyOf(id))
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
