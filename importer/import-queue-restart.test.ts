import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
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
import { createImportLog, type ImportLog } from './import-log.ts'
import { isFinished } from './import-record.ts'

const log = createLog('silent')
const { signal } = new AbortController()
const noKey = { idempotencyKey: undefined }
const hourMs = 3_600_000

let setup: QueueSetup
beforeEach(async () => {
  setup = await createQueueSetup()
})
afterEach(() => setup[Symbol.asyncDispose]())

describe('the same key', () => {
  const key = { idempotencyKey: 'k' }

  test('with the same request is one import, also at the same moment', async () => {
    await using queue = await setup.openQueue()
    const source = await setup.serveDisk()
    const created = await Promise.all([1, 2, 3].map(() => queue.create(importOf(source), key)))
    expect(new Set(created.map(({ id }) => id)).size).toBe(1)
    const [first] = created
    if (first) await ended(queue, first)
    expect((await queue.create(importOf(source), key)).id).toBe(first?.id)
    expect(await queue.list({})).toHaveLength(1)
  })

  test('with another request is refused, and free again where nothing came of it', async () => {
    await using queue = await setup.openQueue()
    const source = await setup.serveDisk()
    const wrong = importOf(source, { name: 'UPPER' })
    await expect(queue.create(wrong, key)).rejects.toMatchObject({ code: 'NAME_INVALID' })
    const { id } = await queue.create(importOf(source), key)
    const other = importOf(source, { tag: '13' })
    await expect(queue.create(other, key)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
      detail: { id },
    })
    await queue.create(other, { idempotencyKey: 'other' })
    expect(await queue.list({})).toHaveLength(2)
  })

  test('is known after a restart', async () => {
    const source = await setup.serveDisk()
    const queue = await setup.openQueue()
    const created = await queue.create(importOf(source), key)
    await ended(queue, created)
    await queue[Symbol.asyncDispose]()
    await using next = await setup.openQueue()
    expect((await next.create(importOf(source), key)).id).toBe(created.id)
  })
})

describe('a restart', () => {
  test('gives up an import that was running whenever the server was killed', async () => {
    await using gate = await startGatedSource(smallDisk)
    const records = createImportLog(setup.store.objects, log)
    const queue = await setup.openQueue()
    const { id } = await queue.create(importOf(gate.url), noKey)
    await gate.held()
    const [running] = await records.load(new Date(0))
    expect(running?.record.attempts).toBe(1)
    await queue[Symbol.asyncDispose]()
    const [stopped] = await records.load(new Date(0))
    expect(stopped?.record.attempts).toBe(0)

    if (running) await records.save({ ...running, record: { ...running.record, attempts: 10 } })
    await using next = await setup.openQueue()
    expect(await next.get(id)).toMatchObject({ state: 'failed', error: { code: 'UNKNOWN' } })
    expect(await records.load(new Date(0))).toMatchObject([{ record: { state: 'failed' } }])
  })

  test('starts again what was not finished, running or queued', async () => {
    await using gate = await startGatedSource(smallDisk)
    const queue = await setup.openQueue({ maxRunning: 1 })
    const source = gate.url.replace('//', '//me:secret@')
    const running = await queue.create(importOf(source), noKey)
    const waiting = await queue.create(importOf(source, { tag: '13' }), noKey)
    await gate.held()
    const watching = (async () => {
      for await (const record of queue.watch(running.id, { signal })) if (isFinished(record)) break
    })()
    await queue[Symbol.asyncDispose]()
    // Watchers do not wait for what this process will not finish.
    await watching
    expect(await tagDigest(setup.store)).toBeUndefined()
    gate.open()
    await using next = await setup.openQueue()
    expect(await ended(next, running)).toMatchObject({ state: 'succeeded' })
    expect(await ended(next, waiting)).toMatchObject({ state: 'succeeded' })
  })

  test('forgets what was finished long ago, and leaves out what it cannot read', async () => {
    const queue = await setup.openQueue()
    const old = await ended(queue, await queue.create(importOf(await setup.serveDisk()), noKey))
    await queue[Symbol.asyncDispose]()
    await setup.store.objects.put('v1/imports/broken.json', Buffer.from('{'), 'always')
    await using next = await setup.openQueue()
    expect(await next.list({})).toHaveLength(1)
    await using later = await setup.openQueue({ retentionMs: -hourMs })
    expect(await later.list({})).toEqual([])
    expect(await setup.store.objects.get(`v1/imports/${old.id}.json`)).toBeUndefined()
  })
})

describe('a record that cannot be kept', () => {
  test('refuses a new import, and hurts nobody at the end of one', async () => {
    const records = createImportLog(setup.store.objects, log)
    const full = vi.fn<ImportLog['save']>(async () => {
      throw Object.assign(new Error('disk full'), { code: 'ENOSPC' })
    })
    const wanted = importOf(await setup.serveDisk())
    await using refusing = await setup.openQueue({ records: { ...records, save: full } })
    await expect(refusing.create(wanted, noKey)).rejects.toMatchObject({ code: 'ENOSPC' })
    expect(await refusing.list({})).toEqual([])

    const save = full.mockImplementationOnce(records.save)
    await using queue = await setup.openQueue({ records: { ...records, save } })
    const record = await ended(queue, await queue.create(wanted, noKey))
    expect(record.state).toBe('succeeded')
    expect(await tagDigest(setup.store)).toBe(record.image?.digest)
    save.mockImplementation(records.save)
    const next = await queue.create({ ...wanted, tag: '13' }, noKey)
    expect(await ended(queue, next)).toMatchObject({ state: 'succeeded' })
    expect((await queue.get(record.id)).state).toBe('succeeded')
  })
})
