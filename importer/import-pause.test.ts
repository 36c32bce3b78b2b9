import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { keptBytes, serveDripping, type Served } from '../test/fixtures/dripping-source.ts'
import {
  createQueueSetup,
  ended,
  importOf,
  smallDisk,
  type QueueSetup,
} from '../test/fixtures/queue-setup.ts'
import type { ImportQueue } from './imports.ts'

const MiB = 1024 * 1024
const noKey = { idempotencyKey: undefined }
const disk = Buffer.concat([randomBytes(24 * MiB), Buffer.alloc(8 * MiB)])
disk.set([0x55, 0xaa], 510)

let setup: QueueSetup
beforeEach(async () => {
  setup = await createQueueSetup()
})
afterEach(() => setup[Symbol.asyncDispose]())

/** An import of the disk that has written down how far it is, and does not end by itself. */
async function startSlow(queue: ImportQueue): Promise<{ id: string; served: Served }> {
  const served = await serveDripping(setup, disk)
  const { id } = await queue.create(importOf(served.url), noKey)
  await expect.poll(() => keptBytes(setup, id), { timeout: 20_000 }).toBeGreaterThan(8 * MiB)
  return { id, served }
}

async function whole(): Promise<string | undefined> {
  await using queue = await setup.openQueue()
  const served = await serveDripping(setup, disk)
  served.open()
  const { id } = await queue.create(importOf(served.url, { tag: 'whole' }), noKey)
  return (await ended(queue, { id })).image?.layerDigest
}

describe('an import that is paused', () => {
  test('stands still, lets others run, and goes on where it was', async () => {
    await using queue = await setup.openQueue({ maxRunning: 1 })
    const { id, served } = await startSlow(queue)
    expect(await queue.pause(id)).toMatchObject({ state: 'paused' })
    const next = await queue.create(importOf(await setup.serveDisk(), { tag: '13' }), noKey)
    expect(await ended(queue, next)).toMatchObject({ state: 'succeeded' })
    expect(await queue.get(id)).toMatchObject({ state: 'paused' })
    served.open()
    expect(await queue.retry(id)).toMatchObject({ state: 'queued', id })
    const { image } = await ended(queue, { id })
    expect(served.starts[1]).toBeGreaterThan(4 * MiB)
    expect(image?.layerDigest).toBe(await whole())
  })

  test('stays so over a restart, before it has begun too', async () => {
    const first = await setup.openQueue({ maxRunning: 1 })
    const { id, served } = await startSlow(first)
    const waiting = await first.create(importOf(await setup.serveDisk(), { tag: '13' }), noKey)
    expect(await first.pause(waiting.id)).toMatchObject({ state: 'paused', attempts: 0 })
    await first.pause(id)
    await first[Symbol.asyncDispose]()
    served.open()
    await using second = await setup.openQueue()
    expect((await second.list({})).map(({ state }) => state)).toEqual(['paused', 'paused'])
    for (const one of [waiting.id, id]) {
      await second.retry(one)
      expect(await ended(second, { id: one })).toMatchObject({ state: 'succeeded' })
    }
    expect(served.starts[1]).toBeGreaterThan(4 * MiB)
  })

  test('can be cancelled, and then leaves nothing behind', async () => {
    await using queue = await setup.openQueue()
    const { id } = await startSlow(queue)
    await queue.pause(id)
    expect(await queue.cancel(id)).toMatchObject({ state: 'cancelled' })
    expect(await queue.pause(id)).toMatchObject({ state: 'cancelled' })
    expect(await setup.store.objects.list('v1/imports-state/', {})).toEqual([])
    expect(await setup.store.objects.list('v1/uploads/', {})).toEqual([])
  })
})

describe('an import that has ended', () => {
  test('begins anew where it failed for good', async () => {
    let isThere = false
    const source = await setup.serveDisk((_request, response) => {
      response.writeHead(isThere ? 200 : 404).end(smallDisk)
    })
    await using queue = await setup.openQueue()
    const { id } = await queue.create(importOf(source), noKey)
    expect((await ended(queue, { id })).error?.code).toBe('SOURCE_NOT_FOUND')
    isThere = true
    await queue.retry(id)
    const record = await ended(queue, { id })
    expect(record).toMatchObject({ state: 'succeeded', attempts: 1 })
    expect(record.error).toBeUndefined()
    expect(await queue.retry(id)).toMatchObject({ state: 'succeeded' })
  })

  test('goes on where it was after a failure that may pass', async () => {
    await using queue = await setup.openQueue()
    const served = await serveDripping(setup, disk)
    const { id } = await queue.create(importOf(served.url), noKey)
    await expect.poll(() => keptBytes(setup, id), { timeout: 20_000 }).toBeGreaterThan(8 * MiB)
    served.refuse(true)
    expect(await ended(queue, { id })).toMatchObject({ error: { retryable: true } })
    served.refuse(false)
    served.open()
    await queue.retry(id)
    const { image } = await ended(queue, { id })
    expect(served.starts.at(-1)).toBeGreaterThan(4 * MiB)
    expect(image?.layerDigest).toBe(await whole())
    await expect.poll(() => setup.store.objects.list('v1/imports-state/', {})).toEqual([])
  })

  test('is refused where its tag was taken meanwhile', async () => {
    await using queue = await setup.openQueue()
    const { id } = await startSlow(queue)
    await queue.cancel(id)
    const other = await queue.create(importOf(await setup.serveDisk()), noKey)
    await ended(queue, other)
    await expect(queue.retry(id)).rejects.toMatchObject({ code: 'TAG_EXISTS' })
    await expect(queue.retry('none')).rejects.toMatchObject({ code: 'IMPORT_UNKNOWN' })
    await expect(queue.pause('none')).rejects.toMatchObject({ code: 'IMPORT_UNKNOWN' })
  })
})
