import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { ImportStage } from '../core/report.ts'
import { importRecordSchema, newImportRecord, type ImportRecord } from './import-record.ts'
import { createImportTracker, type ImportTracker } from './import-tracker.ts'

const newTracker = (): ImportTracker =>
  createImportTracker(newImportRecord('http://a/b', { name: 'debian', tag: '12' }))
const progress = (stage: ImportStage, bytes = 0, totalBytes?: number) =>
  ({ type: 'progress', stage, bytes, totalBytes }) as const
const never = new AbortController().signal

async function collectRecords(tracker: ImportTracker, signal = never): Promise<ImportRecord[]> {
  const seen: ImportRecord[] = []
  for await (const record of tracker.watch(signal)) seen.push(record)
  return seen
}

test('events of the pipeline become the record, which its schema takes at any time', () => {
  const tracker = newTracker()
  const events = [
    progress('connect'),
    progress('transfer', 0, 1000),
    progress('transfer', 600, 1000),
    { type: 'detected', format: 'raw', virtualSize: undefined } as const,
    { type: 'warning', message: 'careful' } as const,
    progress('digest'),
    progress('push', 10),
    progress('commit'),
  ]
  for (const event of events) {
    tracker.report(event)
    expect(importRecordSchema.parse(tracker.record)).toEqual(tracker.record)
  }
  expect(tracker.record).toMatchObject({
    stage: 'commit',
    format: 'raw',
    warnings: ['careful'],
    progress: { bytes: 10 },
  })
  tracker.report({ type: 'detected', format: 'qcow2', virtualSize: 5 })
  expect(tracker.record).toMatchObject({ format: 'qcow2', virtualSize: 5 })
})

test('stages without bytes keep showing how much was moved', () => {
  const tracker = newTracker()
  tracker.report(progress('transfer', 700, 1000))
  tracker.report(progress('digest'))
  tracker.report(progress('commit'))
  expect(tracker.record.progress).toMatchObject({ bytes: 700, totalBytes: 1000 })
})

test('bytes only grow within a stage', async () => {
  const tracker = newTracker()
  const watching = collectRecords(tracker)
  for (let bytes = 0; bytes <= 100_000; bytes += 100) {
    tracker.report(progress('transfer', bytes, 100_000))
    if (bytes % 10_000 === 0) await sleep(1)
  }
  tracker.change({ state: 'succeeded' })
  const bytes = (await watching).map((record) => record.progress.bytes)
  expect(bytes).toEqual(bytes.toSorted((a, b) => a - b))
  expect(bytes.at(-1)).toBe(100_000)
})

test('watchers hear of the first event, then of progress a few times a second at most', async () => {
  const tracker = newTracker()
  const watching = collectRecords(tracker)
  await sleep(0)
  const startMs = performance.now()
  for (let bytes = 0; bytes < 2000; bytes++) {
    tracker.report(progress('transfer', bytes))
    if (bytes % 100 === 0) await sleep(1)
  }
  const elapsedMs = performance.now() - startMs
  tracker.change({ state: 'failed' })
  const seen = await watching
  // The first record, the start of the stage, one each 200 ms, the last.
  expect(seen.length).toBeLessThanOrEqual(3 + Math.ceil(elapsedMs / 200))
  expect(seen.at(0)?.state).toBe('queued')
  expect(seen.at(-1)).toBe(tracker.record)
})

test('watching ends with the last record, for every watcher and for late ones', async () => {
  const tracker = newTracker()
  const watchers = [collectRecords(tracker), collectRecords(tracker)]
  await sleep(1)
  tracker.change({ state: 'running' })
  await sleep(1)
  tracker.change({ state: 'cancelled' })
  for (const seen of await Promise.all(watchers)) {
    expect(seen.map(({ state }) => state)).toEqual(['queued', 'running', 'cancelled'])
  }
  expect(await collectRecords(tracker)).toEqual([tracker.record])
})

test('watching ends when it is aborted, before and while it waits', async () => {
  const tracker = newTracker()
  expect(await collectRecords(tracker, AbortSignal.abort())).toHaveLength(1)
  const stop = new AbortController()
  const watching = collectRecords(tracker, stop.signal)
  await sleep(1)
  stop.abort()
  expect((await watching).at(-1)).toBe(tracker.record)
})

test('a slow watcher sees the newest record next, not each one', async () => {
  const tracker = newTracker()
  const records = tracker.watch(never)
  await records.next()
  for (let attempts = 1; attempts <= 5; attempts++) tracker.change({ attempts })
  expect((await records.next()).value).toMatchObject({ attempts: 5 })
  await records.return()
})

test('a second attempt is shown once it gets further than the first', () => {
  const tracker = newTracker()
  tracker.report(progress('transfer', 600, 1000))
  for (const event of [progress('connect'), progress('transfer', 100, 1000)]) {
    tracker.report(event)
    expect(tracker.record).toMatchObject({ stage: 'transfer', progress: { bytes: 600 } })
  }
  tracker.report(progress('transfer', 700, 1000))
  expect(tracker.record.progress.bytes).toBe(700)
})
