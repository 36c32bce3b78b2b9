import { Counter, Gauge, type Registry as MetricsRegistry } from '@prometheus-io/client'
import type { ImportRecord } from './import-record.ts'

/** What operators see of imports; labels are bounded. */
export interface ImportMetrics {
  queued(): void
  finished(record: ImportRecord): void
}

export function createImportMetrics(registry: MetricsRegistry): ImportMetrics {
  const registers = [registry]
  const unfinished = new Gauge({
    name: 'dvcr_imports_unfinished',
    help: 'Imports queued or running.',
    registers,
  })
  const finished = new Counter({
    name: 'dvcr_imports_total',
    help: 'Finished imports by state and error code.',
    labelNames: ['state', 'code'],
    registers,
  })
  const sourceBytes = new Counter({
    name: 'dvcr_import_source_bytes_total',
    help: 'Bytes transferred from sources by finished imports.',
    registers,
  })
  return {
    queued: () => unfinished.inc(),
    finished(record) {
      unfinished.dec()
      finished.inc({ state: record.state, code: record.error?.code ?? '' })
      sourceBytes.inc(record.image?.sourceBytes ?? record.progress.bytes)
    },
  }
}
