import { Registry } from '@prometheus-io/client'
import { expect, test } from 'vitest'
import { newImportRecord, type ImportRecord } from './import-record.ts'
import { createImportMetrics } from './metrics.ts'

const record = (change: Partial<ImportRecord>): ImportRecord => ({
  ...newImportRecord('http://images.example/a', { name: 'a', tag: '1' }),
  ...change,
})
const moved = (bytes: number, bytesPerSecond: number): Partial<ImportRecord> => ({
  state: 'running',
  progress: { bytes, bytesPerSecond },
})

test('imports are counted by the state that they are in', async () => {
  const registry = new Registry()
  const metrics = createImportMetrics(registry)
  let records = [record({}), record(moved(1000, 10)), record(moved(500, 5))]
  metrics.watch(() => records)
  const read = async (): Promise<string[]> => (await registry.metrics()).split('\n')
  expect(await read()).toEqual(
    expect.arrayContaining([
      'dvcr_imports_active{state="queued"} 1',
      'dvcr_imports_active{state="running"} 2',
      'dvcr_imports_active{state="paused"} 0',
      'dvcr_imports_running_bytes 1500',
      'dvcr_imports_running_bytes_per_second 15',
    ]),
  )
  records = [record({ ...moved(1000, 10), state: 'paused' }), record({ state: 'cancelled' })]
  expect(await read()).toEqual(
    expect.arrayContaining([
      'dvcr_imports_active{state="queued"} 0',
      'dvcr_imports_active{state="running"} 0',
      'dvcr_imports_active{state="paused"} 1',
      'dvcr_imports_running_bytes 0',
    ]),
  )
})

test('what ended is counted by state and code, with its bytes and its time', async () => {
  const registry = new Registry()
  const metrics = createImportMetrics(registry)
  const error = { code: 'SOURCE_NOT_FOUND', message: 'not there', retryable: false }
  const startedAt = '2026-01-01T00:00:00Z'
  metrics.finished(record({ state: 'cancelled' }))
  metrics.finished(
    record({
      ...moved(7, 0),
      state: 'failed',
      error,
      startedAt,
      finishedAt: '2026-01-01T00:00:20Z',
    }),
  )
  expect((await registry.metrics()).split('\n')).toEqual(
    expect.arrayContaining([
      'dvcr_imports_total{state="cancelled",code=""} 1',
      'dvcr_imports_total{state="failed",code="SOURCE_NOT_FOUND"} 1',
      'dvcr_import_source_bytes_total 7',
      'dvcr_import_duration_seconds_sum{state="failed"} 20',
      'dvcr_import_duration_seconds_bucket{le="15",state="failed"} 0',
      'dvcr_import_duration_seconds_bucket{le="60",state="failed"} 1',
    ]),
  )
})
