import { Counter, Gauge, Histogram, type Registry as MetricsRegistry } from '@prometheus-io/client'
import type { ImportRecord } from './import-record.ts'

/** What operators see of imports; labels are bounded. */
export interface ImportMetrics {
  /** Where this process's imports are found when the metrics are read. */
  watch(records: () => readonly ImportRecord[]): void
  finished(record: ImportRecord): void
}

const activeStates = ['queued', 'running', 'paused'] as const

/** From an ISO of a machine nearby to 100 GB from far away. */
const durationBuckets = [1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400]

export function createImportMetrics(registry: MetricsRegistry): ImportMetrics {
  const registers = [registry]
  let records: () => readonly ImportRecord[] = () => []
  const inState = (state: ImportRecord['state']): readonly ImportRecord[] =>
    records().filter((record) => record.state === state)
  const sumOfRunning = (figure: 'bytes' | 'bytesPerSecond'): number =>
    inState('running').reduce((sum, { progress }) => sum + progress[figure], 0)

  const active: Gauge<'state'> = new Gauge({
    name: 'dvcr_imports_active',
    help: 'Imports of this process that are not finished, by state.',
    labelNames: ['state'],
    registers,
    collect: (): void => {
      for (const state of activeStates) active.set({ state }, inState(state).length)
    },
  })
  const runningBytes: Gauge = new Gauge({
    name: 'dvcr_imports_running_bytes',
    help: 'Bytes that the running imports have moved in their present stage.',
    registers,
    collect: (): void => runningBytes.set(sumOfRunning('bytes')),
  })
  const speed: Gauge = new Gauge({
    name: 'dvcr_imports_running_bytes_per_second',
    help: 'Speed of the running imports together, over the last seconds.',
    registers,
    collect: (): void => speed.set(sumOfRunning('bytesPerSecond')),
  })
  const finished = new Counter({
    name: 'dvcr_imports_total',
    help: 'Finished imports by state and error code.',
    labelNames: ['state', 'code'],
    registers,
  })
  const durations = new Histogram({
    name: 'dvcr_import_duration_seconds',
    help: 'Time from the start of an import to its end, by state.',
    labelNames: ['state'],
    buckets: durationBuckets,
    registers,
  })
  const sourceBytes = new Counter({
    name: 'dvcr_import_source_bytes_total',
    help: 'Bytes transferred from sources by finished imports.',
    registers,
  })
  const storedBytes = new Counter({
    name: 'dvcr_import_stored_bytes_total',
    help: 'Bytes of the layers of imported images.',
    registers,
  })
  return {
    watch(found) {
      records = found
    },
    finished(record) {
      const { state, image, error } = record
      finished.inc({ state, code: error?.code ?? '' })
      sourceBytes.inc(image?.sourceBytes ?? record.progress.bytes)
      storedBytes.inc(image?.storedSize ?? 0)
      const seconds = secondsOf(record)
      if (seconds !== undefined) durations.observe({ state }, seconds)
    },
  }
}

/** `undefined` for one that never ran. */
function secondsOf({ startedAt, finishedAt }: ImportRecord): number | undefined {
  if (startedAt === undefined || finishedAt === undefined) return undefined
  // Clocks may be set back.
  return Math.max(0, (Date.parse(finishedAt) - Date.parse(startedAt)) / 1000)
}
