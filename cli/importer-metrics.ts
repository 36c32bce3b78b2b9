import { Gauge, type Registry } from '@prometheus-io/client'
import type { Report } from '../core/report.ts'
import type { ImportRecord } from '../importer/import-record.ts'

/**
 * The metrics that controllers read of the pod of an import: how far the transfer is, in percent,
 * and its speed, in bytes per second. `record` is asked when they are read. Answers what takes the
 * pipeline's events.
 */
export function createPodMetrics(
  registry: Registry,
  { ownerUid: ownerUID, record }: { readonly ownerUid: string; record(): ImportRecord },
): Report {
  const startedMs = performance.now()
  let transfer = { bytes: 0, totalBytes: 0, atMs: startedMs }
  const isOver = (): boolean => !['connect', 'transfer'].includes(record().stage ?? 'connect')
  const gauge = (name: string, help: string, value: () => number): void => {
    const made: Gauge<'ownerUID'> = new Gauge({
      name,
      help,
      labelNames: ['ownerUID'],
      registers: [registry],
      collect: (): void => made.set({ ownerUID }, value()),
    })
  }
  gauge('registry_progress', 'Percent of the source that came.', () => {
    if (isOver()) return 100
    const { bytes, totalBytes } = transfer
    return totalBytes === 0 ? 0 : Math.min(100, (bytes * 100) / totalBytes)
  })
  gauge('registry_average_speed', 'Bytes per second from the source since the start.', () => {
    const { bytes, atMs } = transfer
    return atMs === startedMs ? 0 : Math.round((bytes * 1000) / (atMs - startedMs))
  })
  gauge('registry_current_speed', 'Bytes per second from the source in the last seconds.', () =>
    isOver() ? 0 : record().progress.bytesPerSecond,
  )
  return (event) => {
    if (event.type !== 'progress' || event.stage !== 'transfer') return
    const { bytes, totalBytes = 0 } = event
    // A transfer that starts again counts when it gets further than the one before.
    if (bytes > transfer.bytes) transfer = { bytes, totalBytes, atMs: performance.now() }
  }
}
