import { afterEach, beforeEach, expect, test } from 'vitest'
import { startGatedSource } from '../test/e2e/gated-source.ts'
import {
  createQueueSetup,
  ended,
  importOf,
  smallDisk,
  type QueueSetup,
} from '../test/fixtures/queue-setup.ts'
import type { ImportRecord } from './import-record.ts'

const noKey = { idempotencyKey: undefined }

let setup: QueueSetup
beforeEach(async () => {
  setup = await createQueueSetup()
})
afterEach(() => setup[Symbol.asyncDispose]())

test('a source that is stuck holds its own place, and no other import', async () => {
  await using queue = await setup.openQueue({ maxRunning: 2 })
  await using gate = await startGatedSource(smallDisk)
  const source = await setup.serveDisk()
  const stuck = await queue.create(importOf(gate.url), noKey)
  await gate.held()
  for (const tag of ['1', '2', '3', '4']) {
    const record = await ended(queue, await queue.create(importOf(source, { tag }), noKey))
    expect(record.state).toBe('succeeded')
  }
  expect((await queue.get(stuck.id)).state).toBe('running')
})

test.each([1, 2])('of %d at a time everybody has a turn', async (maxRunning) => {
  await using queue = await setup.openQueue({ maxRunning })
  await using gate = await startGatedSource(smallDisk)
  const created: ImportRecord[] = []
  const create = async (name: string) => {
    created.push(await queue.create(importOf(gate.url, { name, replace: true }), noKey))
  }
  for (let index = 0; index < 6; index++) await create(`many/${index}`)
  await gate.held(maxRunning)
  for (const name of ['few/1', 'one', 'few/2']) await create(name)
  gate.open()
  for (const record of created) await ended(queue, record)
  const records = (await queue.list({})).toSorted((a, b) =>
    (a.startedAt ?? '').localeCompare(b.startedAt ?? ''),
  )
  const places = records.map(({ name }) => name)
  for (const name of ['few/1', 'one']) {
    expect(places.indexOf(name)).toBeLessThanOrEqual(maxRunning + 1)
  }
  expect(places.indexOf('few/2')).toBeLessThan(places.length - 1)
})
