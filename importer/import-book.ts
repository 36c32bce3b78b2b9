import { CodedError } from '../core/errors.ts'
import { createSerial } from '../core/serial.ts'
import type { ImportQueueDeps } from './import-queue-deps.ts'
import { finishedBefore, type ImportRecord, type StoredImport } from './import-record.ts'
import { createImportTracker, type ImportTracker } from './import-tracker.ts'
import type { CreateImportOptions } from './imports.ts'

/** An import that this process knows. */
export interface QueuedImport {
  readonly stored: StoredImport
  readonly tracker: ImportTracker
  /** Only as long as this process knows who asked. */
  readonly mayPull: CreateImportOptions['mayPull']
}

/** The imports that this process knows, in the order they came, and their kept records. */
export interface ImportBook {
  add(stored: StoredImport, mayPull: QueuedImport['mayPull']): void
  /** Throws IMPORT_UNKNOWN. */
  lookUp(id: string): QueuedImport
  all(): QueuedImport[]
  /**
   * Changes and saves a record, one change after the other: what is saved last is what was last.
   * Where that fails the import goes on; after a restart it runs again.
   */
  keep(id: string, change: Partial<ImportRecord>): Promise<ImportRecord>
  /** The same for its end; what was kept to go on with is removed, unless it may be wanted. */
  settle(id: string, change: Partial<ImportRecord>): Promise<ImportRecord>
  /** Another process runs it now: its record is no longer this one's to write. */
  lose(id: string): void
  /** Only this process forgets it. */
  drop(id: string): void
  /** Removes what ended before `time`. */
  forgetOld(time: Date): Promise<void>
}

export function createImportBook(
  deps: Pick<ImportQueueDeps, 'records' | 'secrets' | 'metrics' | 'keeperOf' | 'log'>,
): ImportBook {
  const imports = new Map<string, QueuedImport>()
  const lost = new Set<string>()
  const saving = createSerial()
  deps.metrics.watch(() => [...imports.values()].map(({ tracker }) => tracker.record))

  function lookUp(id: string): QueuedImport {
    const found = imports.get(id)
    if (!found) {
      throw new CodedError(
        'IMPORT_UNKNOWN',
        `no import ${id}; finished imports are kept for a while`,
      )
    }
    return found
  }

  const keep = (id: string, change: Partial<ImportRecord>): Promise<ImportRecord> =>
    saving(id, async () => {
      const { stored, tracker } = lookUp(id)
      const record = { ...tracker.record, ...change }
      if (!lost.has(id)) {
        await deps.records.save({ ...stored, record }).catch((error: unknown) => {
          deps.log.error({ import: id, err: error }, 'cannot keep the record of an import')
        })
      }
      return tracker.change(change)
    })

  async function settle(id: string, change: Partial<ImportRecord>): Promise<ImportRecord> {
    const record = await keep(id, { ...change, finishedAt: new Date().toISOString() })
    await deps.secrets.forget(id)
    deps.metrics.finished(record)
    // What is kept of it is for the process that goes on with it, or for another try; but where
    // there is no room it takes that of others.
    const isWanted = record.error?.retryable === true && record.error.code !== 'STORAGE_FULL'
    if (lost.has(id) || isWanted) return record
    // Where this fails it is done once more when the record goes.
    await deps
      .keeperOf(record)
      .forget()
      .catch((error: unknown) => {
        deps.log.warn({ import: id, err: error }, 'cannot remove what was kept of an import')
      })
    return record
  }

  return {
    add(stored, mayPull) {
      const tracker = createImportTracker(stored.record)
      imports.set(stored.record.id, { stored, tracker, mayPull })
    },
    lookUp,
    all: () => [...imports.values()],
    keep,
    settle,
    lose: (id) => void lost.add(id),
    drop(id) {
      lost.delete(id)
      imports.delete(id)
    },
    async forgetOld(time) {
      for (const [id, { tracker }] of imports) {
        if (!finishedBefore(tracker.record, time)) continue
        await deps.keeperOf(tracker.record).forget()
        await deps.records.remove(id)
        imports.delete(id)
      }
    },
  }
}
