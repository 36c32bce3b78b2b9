import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { createLog } from '../core/log.ts'
import {
  createQueueSetup,
  ended,
  importOf,
  smallDisk,
  tagDigest,
  type QueueSetup,
} from '../test/fixtures/queue-setup.ts'
import { createImportLog, type ImportLog } from './import-log.ts'
import { createMemorySecrets } from './import-secrets.ts'
import type { Imports } from './imports.ts'
import { createRunners } from './runners.ts'
import { openSharedImports } from './shared-imports.ts'

const log = createLog('silent')
const beatEveryMs = 50
const silentMs = 400
const noKey = { idempotencyKey: undefined }

/** One of several processes on the setup's store. */
async function openProcess({ store, openQueue }: QueueSetup): Promise<Imports & AsyncDisposable> {
  const { objects } = store
  const records = createImportLog(objects, log)
  const runners = createRunners(objects, silentMs)
  const secrets = createMemorySecrets()
  const queue = await openQueue({ records, secrets, runner: runners.id })
  const retentionMs = 3_600_000
  return openSharedImports({
    queue,
    records,
    secrets,
    objects,
    runners,
    log,
    retentionMs,
    beatEveryMs,
  })
}

/** A disk that stands still in the middle until it is let go. */
function gatedDisk() {
  const gate = Promise.withResolvers<void>()
  return {
    letGo: gate.resolve,
    listener: (_request: unknown, response: ServerResponse) => {
      response.writeHead(200, { 'content-length': smallDisk.length })
      response.write(smallDisk.subarray(0, 100_000))
      void gate.promise.then(() => response.end(smallDisk.subarray(100_000)))
    },
  }
}

describe('imports of several processes on one store', () => {
  it('are answered by any of them', async () => {
    await using setup = await createQueueSetup()
    await using one = await openProcess(setup)
    await using two = await openProcess(setup)
    const { letGo, listener } = gatedDisk()
    const record = await one.create(importOf(await setup.serveDisk(listener)), noKey)
    expect(await two.get(record.id)).toMatchObject({ id: record.id, name: 'debian' })
    expect((await two.list({})).map(({ id }) => id)).toEqual([record.id])
    letGo()
    expect(await ended(two, record)).toMatchObject({ state: 'succeeded' })
    expect(await tagDigest(setup.store)).toBeDefined()
  })

  it('are cancelled at any of them', async () => {
    await using setup = await createQueueSetup()
    await using one = await openProcess(setup)
    await using two = await openProcess(setup)
    const { letGo, listener } = gatedDisk()
    const record = await one.create(importOf(await setup.serveDisk(listener)), noKey)
    expect(await two.cancel(record.id)).toMatchObject({ state: 'cancelled' })
    expect(await one.get(record.id)).toMatchObject({ state: 'cancelled' })
    letGo()
  })

  it('are paused at any of them, and go on at the one that is asked for it', async () => {
    await using setup = await createQueueSetup()
    await using one = await openProcess(setup)
    await using two = await openProcess(setup)
    const { letGo, listener } = gatedDisk()
    const record = await one.create(importOf(await setup.serveDisk(listener)), noKey)
    expect(await two.pause(record.id)).toMatchObject({ state: 'paused' })
    expect(await one.get(record.id)).toMatchObject({ state: 'paused' })
    letGo()
    expect(await two.retry(record.id)).toMatchObject({ state: 'queued' })
    expect(await ended(two, record)).toMatchObject({ state: 'succeeded' })
    expect(await one.get(record.id)).toMatchObject({ state: 'succeeded' })
    expect((await one.list({})).map(({ state }) => state)).toEqual(['succeeded'])
  })

  it('begin anew at any of them where they have failed', async () => {
    await using setup = await createQueueSetup()
    await using one = await openProcess(setup)
    await using two = await openProcess(setup)
    let isThere = false
    const source = await setup.serveDisk((_request, response) => {
      response.writeHead(isThere ? 200 : 404).end(smallDisk)
    })
    const record = await one.create(importOf(source), noKey)
    expect(await ended(two, record)).toMatchObject({ state: 'failed' })
    isThere = true
    await two.retry(record.id)
    expect(await ended(one, record)).toMatchObject({ state: 'succeeded', attempts: 1 })
  })

  it('are run by one process only, and by another one when that has died', async () => {
    await using setup = await createQueueSetup()
    const { objects } = setup.store
    const source = await setup.serveDisk()
    const records = createImportLog(objects, log)
    // A process that took an import, lived for a while, and was killed.
    const dead = createRunners(objects, silentMs)
    await dead.beat()
    const waiting = await setup.openQueue({ records, runner: dead.id, maxRunning: 0 })
    const record = await waiting.create(importOf(source), noKey)
    await using one = await openProcess(setup)
    await using two = await openProcess(setup)
    for (let beat = 0; beat < 4; beat++) {
      await dead.beat()
      await sleep(silentMs / 2)
    }
    expect(await one.get(record.id)).toMatchObject({ state: 'queued', attempts: 0 })
    expect(await ended(two, record)).toMatchObject({ state: 'succeeded', attempts: 1 })
    expect(await one.get(record.id)).toMatchObject({ state: 'succeeded' })
  })

  it('keep how they ended, though their progress was being saved just then', async () => {
    await using setup = await createQueueSetup()
    const records = createImportLog(setup.store.objects, log)
    const held = Promise.withResolvers<void>()
    let wait: Promise<void> | undefined
    const slow: ImportLog = {
      ...records,
      async save(stored) {
        const before = wait
        wait = undefined
        await before
        await records.save(stored)
      },
    }
    await using queue = await setup.openQueue({ records: slow })
    const { letGo, listener } = gatedDisk()
    const { id } = await queue.create(importOf(await setup.serveDisk(listener)), noKey)
    await expect.poll(async () => (await records.read(id))?.record.attempts).toBe(1)
    wait = held.promise
    const keeping = queue.keepProgress()
    letGo()
    // Long enough for the import to end, were it not for the save that is held.
    await sleep(300)
    held.resolve()
    await keeping
    await ended(queue, { id })
    expect(await records.read(id)).toMatchObject({ record: { state: 'succeeded' } })
  })

  it('are one import where they have one Idempotency-Key', async () => {
    await using setup = await createQueueSetup()
    await using one = await openProcess(setup)
    await using two = await openProcess(setup)
    const request = importOf(await setup.serveDisk())
    const key = { idempotencyKey: 'k' }
    const first = await one.create(request, key)
    expect((await two.create(request, key)).id).toBe(first.id)
    await expect(two.create({ ...request, tag: '13' }, key)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    })
    await ended(two, first)
  })
})
