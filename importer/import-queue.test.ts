import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createLog } from '../core/log.ts'
import { startGatedSource } from '../test/e2e/gated-source.ts'
import {
  createQueueSetup,
  ended,
  importOf,
  smallDisk,
  tagDigest,
  type QueueSetup,
} from '../test/fixtures/queue-setup.ts'
import { createImportLog } from './import-log.ts'
import type { ImportRecord, NewImport } from './import-record.ts'

const log = createLog('silent')
const noKey = { idempotencyKey: undefined }

let setup: QueueSetup
beforeEach(async () => {
  setup = await createQueueSetup()
})
afterEach(() => setup[Symbol.asyncDispose]())

describe('an import', () => {
  test('makes the image, and keeps a record without secrets', async () => {
    await using queue = await setup.openQueue()
    const source = (await setup.serveDisk()).replace('//', '//me:secret@')
    const created = await queue.create(importOf(`${source}?token=secret`), noKey)
    expect(created).toMatchObject({ state: 'queued', name: 'debian', tag: '12', attempts: 0 })
    const record = await ended(queue, created)
    expect(record).toMatchObject({
      state: 'succeeded',
      stage: 'commit',
      attempts: 1,
      format: 'raw',
      progress: { bytes: smallDisk.length },
      image: {
        storedFormat: 'qcow2',
        virtualSize: smallDisk.length,
        sourceBytes: smallDisk.length,
      },
    })
    expect(JSON.stringify(record)).not.toContain('secret')
    expect(await tagDigest(setup.store)).toBe(record.image?.digest)
    const kept = await createImportLog(setup.store.objects, log).load(new Date(0))
    expect(kept.map((stored) => stored.record)).toEqual([record])
  })

  test('of the same source has the same digest again', async () => {
    await using queue = await setup.openQueue()
    const source = await setup.serveDisk()
    const first = await ended(queue, await queue.create(importOf(source), noKey))
    const again = importOf(source, { replace: true })
    const second = await ended(queue, await queue.create(again, noKey))
    expect(second.image?.digest).toBe(first.image?.digest)
  })

  test('that fails says why and shows nothing', async () => {
    await using queue = await setup.openQueue()
    const source = await setup.serveDisk((_in, out) => void out.writeHead(404).end())
    const record = await ended(queue, await queue.create(importOf(source), noKey))
    expect(record).toMatchObject({
      state: 'failed',
      error: { code: 'SOURCE_NOT_FOUND', retryable: false },
    })
    expect(record.image).toBeUndefined()
    expect(await tagDigest(setup.store)).toBeUndefined()
  })

  test('whose transfer was cut starts again', async () => {
    await using queue = await setup.openQueue()
    let count = 0
    const source = await setup.serveDisk((_in, out) => {
      out.writeHead(200, { 'content-length': smallDisk.length })
      if (++count > 1) out.end(smallDisk)
      else out.write(smallDisk.subarray(0, 70_000), () => out.destroy())
    })
    const record = await ended(queue, await queue.create(importOf(source), noKey))
    expect(record).toMatchObject({ state: 'succeeded', attempts: 2 })
  })

  test('that is refused is not kept', async () => {
    await using queue = await setup.openQueue()
    const source = await setup.serveDisk()
    await ended(queue, await queue.create(importOf(source), noKey))
    const refused: [Partial<NewImport>, string][] = [
      [{}, 'TAG_EXISTS'],
      [{ name: 'Debian' }, 'NAME_INVALID'],
      [{ tag: '-' }, 'TAG_INVALID'],
      [{ source: '/etc/passwd' }, 'SOURCE_INVALID'],
    ]
    for (const [change, code] of refused) {
      await expect(queue.create(importOf(source, change), noKey)).rejects.toMatchObject({ code })
    }
    expect(await queue.list({})).toHaveLength(1)
    expect(await createImportLog(setup.store.objects, log).load(new Date(0))).toHaveLength(1)
  })

  test('that nobody knows is told so', async () => {
    await using queue = await setup.openQueue()
    const unknown = { code: 'IMPORT_UNKNOWN' }
    await expect(queue.get('x')).rejects.toMatchObject(unknown)
    await expect(queue.cancel('x')).rejects.toMatchObject(unknown)
    await expect(ended(queue, { id: 'x' })).rejects.toMatchObject(unknown)
  })
})

describe('a queue', () => {
  test('runs so many at a time, in order, and lists the newest first', async () => {
    await using queue = await setup.openQueue({ maxRunning: 1 })
    await using gate = await startGatedSource(smallDisk)
    const created: ImportRecord[] = []
    for (const tag of ['1', '2', '3'])
      created.push(await queue.create(importOf(gate.url, { tag }), noKey))
    await gate.held()
    const states = async () => (await queue.list({})).map(({ tag, state }) => `${tag} ${state}`)
    expect(await states()).toEqual(['3 queued', '2 queued', '1 running'])
    gate.open()
    for (const record of created) await ended(queue, record)
    expect(await states()).toEqual(['3 succeeded', '2 succeeded', '1 succeeded'])
  })

  test('refuses more than so many that wait', async () => {
    await using queue = await setup.openQueue({ maxRunning: 1, maxWaiting: 1 })
    await using gate = await startGatedSource(smallDisk)
    const create = (tag: string) => queue.create(importOf(gate.url, { tag }), noKey)
    const running = await create('1')
    await gate.held()
    const waiting = await create('2')
    await expect(create('3')).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' })
    gate.open()
    for (const record of [running, waiting]) await ended(queue, record)
    expect(await ended(queue, await create('3'))).toMatchObject({ state: 'succeeded' })
  })

  test('lists by state and name, and no more than asked for', async () => {
    await using queue = await setup.openQueue()
    const source = await setup.serveDisk()
    await ended(queue, await queue.create(importOf(source), noKey))
    await ended(queue, await queue.create(importOf(source, { name: 'alpine' }), noKey))
    await ended(queue, await queue.create(importOf(source, { name: 'alpine', tag: '2' }), noKey))
    expect(await queue.list({ name: 'alpine' })).toHaveLength(2)
    expect(await queue.list({ limit: 2 })).toHaveLength(2)
    expect(await queue.list({ state: 'failed' })).toEqual([])
  })

  test('cancels what waits, which then is never fetched', async () => {
    await using queue = await setup.openQueue({ maxRunning: 1 })
    await using gate = await startGatedSource(smallDisk)
    let fetched = 0
    const source = await setup.serveDisk((_in, out) => void out.end(smallDisk, () => fetched++))
    const first = await queue.create(importOf(gate.url), noKey)
    const second = await queue.create(importOf(source, { tag: '13' }), noKey)
    expect(await queue.cancel(second.id)).toMatchObject({ state: 'cancelled' })
    gate.open()
    expect(await ended(queue, first)).toMatchObject({ state: 'succeeded' })
    expect(await queue.cancel(second.id)).toMatchObject({ state: 'cancelled' })
    expect(fetched).toBe(0)
  })

  test('cancels what runs, showing nothing of it, and goes on', async () => {
    await using queue = await setup.openQueue({ maxRunning: 1 })
    await using gate = await startGatedSource(smallDisk)
    const first = await queue.create(importOf(gate.url), noKey)
    const second = await queue.create(importOf(await setup.serveDisk(), { tag: '13' }), noKey)
    await gate.held()
    const record = await queue.cancel(first.id)
    expect(record).toMatchObject({ state: 'cancelled' })
    expect(record.finishedAt).toBeDefined()
    await gate.left()
    expect(await ended(queue, second)).toMatchObject({ state: 'succeeded' })
    expect(await tagDigest(setup.store)).toBeUndefined()
  })

  test('leaves what is finished as it is', async () => {
    await using queue = await setup.openQueue()
    const record = await ended(queue, await queue.create(importOf(await setup.serveDisk()), noKey))
    expect(await queue.cancel(record.id)).toEqual(record)
  })
})
