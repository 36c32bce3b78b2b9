import { importStages, type ImportEvent, type Report } from '../core/report.ts'
import { isFinished, type ImportRecord } from './import-record.ts'
import { createSpeed } from './speed.ts'

const notifyEveryMs = 200

/** One import's record as it changes, and who watches it. */
export interface ImportTracker {
  readonly record: ImportRecord
  /** Takes over `change`, tells the watchers at once, answers the new record. */
  change(change: Partial<ImportRecord>): ImportRecord
  /** Takes the pipeline's events; watchers hear of progress a few times a second. */
  readonly report: Report
  /** The record now and after changes, the last one always; ends when finished or aborted. */
  watch(signal: AbortSignal): AsyncGenerator<ImportRecord, void>
}

export function createImportTracker(initial: ImportRecord): ImportTracker {
  let record = initial
  let speed = createSpeed()
  let notifiedMs = 0
  /** Counts notifications: what watchers wait for. */
  let version = 0
  const watchers = new Set<() => void>()

  function notify(): void {
    notifiedMs = performance.now()
    version++
    for (const wake of watchers) wake()
  }

  function apply(event: ImportEvent): void {
    switch (event.type) {
      case 'detected':
        record = {
          ...record,
          format: event.format,
          ...(event.virtualSize === undefined ? {} : { virtualSize: event.virtualSize }),
        }
        return notify()
      case 'warning':
        record = { ...record, warnings: [...record.warnings, event.message] }
        return notify()
      case 'progress':
        return progressed(event)
    }
  }

  function progressed({ stage, bytes, totalBytes }: ImportEvent & { type: 'progress' }): void {
    const known = record.stage === undefined ? -1 : importStages.indexOf(record.stage)
    // A transfer that starts again is shown when it gets further than the one before.
    if (importStages.indexOf(stage) < known) return
    const entered = stage !== record.stage
    if (!entered && bytes < record.progress.bytes) return
    // Only transfers count bytes; what follows keeps showing how much was moved.
    if (stage === 'transfer' || stage === 'push') {
      const nowMs = performance.now()
      if (entered) speed = createSpeed()
      speed.add(bytes, nowMs)
      const etaMs = speed.etaMs(totalBytes)
      record = {
        ...record,
        stage,
        progress: {
          bytes,
          bytesPerSecond: Math.round(speed.bytesPerSecond),
          ...(totalBytes === undefined ? {} : { totalBytes }),
          ...(etaMs === undefined ? {} : { etaMs: Math.round(etaMs) }),
        },
      }
      if (entered || nowMs - notifiedMs >= notifyEveryMs) notify()
    } else {
      record = { ...record, stage }
      notify()
    }
  }

  return {
    get record() {
      return record
    },
    change(change) {
      record = { ...record, ...change }
      notify()
      return record
    },
    report: apply,
    async *watch(signal) {
      let wake = (): void => {}
      const watcher = (): void => wake()
      watchers.add(watcher)
      signal.addEventListener('abort', watcher)
      try {
        for (;;) {
          const changed = new Promise<void>((resolve) => (wake = resolve))
          const seen = { record, version }
          yield seen.record
          if (isFinished(seen.record) || signal.aborted) return
          if (version === seen.version) await changed
        }
      } finally {
        signal.removeEventListener('abort', watcher)
        watchers.delete(watcher)
      }
    },
  }
}
