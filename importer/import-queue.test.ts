import { createServer, type RequestListener } from 'node:http'
import { Registry as MetricsRegistry } from '@prometheus-io/client'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createLog } from '../core/log.ts'
import { createClusterPool, type ClusterPool } from '../converter/cluster-pool.ts'
import { startGatedSource } from '../test/e2e/gated-source.ts'
import { bootSectorDisk } from '../test/fixtures/boot-sector.ts'
import { listenOnLoopback } from '../test/fixtures/ports.ts'
import { openTempStore, type TempStore } from '../test/fixtures/temp-store.ts'
import { createImportLog, type ImportLog } from './import-log.ts'
import { openImportQueue, type ImportQueueDeps } from './import-queue.ts'
import { isFinished, newImportSchema, type ImportRecord, type NewImport } from './import-record.ts'
import type { Imports } from './imports.ts'
import { createImportMetrics } from './metrics.ts'

const disk = bootSectorDisk({ size: 256 * 1024 })
const log = createLog('silent')
const { signal } = new AbortController()
const noKey = { idempotencyKey: undefined }
const hourMs = 3_600_000

let store: TempStore
let clusterPool: ClusterPool
let owned: AsyncDisposableStack
beforeEach(async () => {
  owned = new AsyncDisposableStack()
  store = owned.use(await openTempStore())
  clusterPool = owned.use(createClusterPool({ threads: 1 }))
})
afterEach(() => owned.disposeAsync())

type Queue = Imports & AsyncDisposable

async function openQueue(change: Partial<ImportQueueDeps> = {}): Promise<Queue> {
  const { registry, hashPool, objects, path } = store
  return openImportQueue({
    ...{ registry, hashPool, clusterPool, log },
    scratchFolder: path,
    maxVirtualSize: 1024 ** 3,
    records: createImportLog(objects, log),
    metrics: createImportMetrics(new MetricsRegistry()),
    maxRunning: 2,
    retentionMs: hourMs,
    retryDelaysMs: [1],
    ...change,
  })
}

/** Serves the disk unless told otherwise; answers the address. */
async function serveDisk(listener: RequestListener = (_in, out) => void out.end(disk)) {
  const server = createServer(listener)
  const url = `http://127.0.0.1:${await listenOnLoopback(server)}/disk.raw`
  owned.defer(() => {
    server.closeAllConnections()
    server.close()
  })
  return url
}

const request = (source: string, change: Partial<NewImport> = {}): NewImport =>
  newImportSchema.parse({ source, name: 'debian', tag: '12', ...change })

async function ended(queue: Queue, { id }: { readonly id: string }): Promise<ImportRecord> {
  for await (const record of queue.watch(id, { signal })) if (isFinished(record)) return record
  throw new Error('the import is not finished')
}

async function tagDigest(tag = '12'): Promise<string | undefined> {
  const { manifests } = store.registry.repository('debian')
  return (await manifests.get({ kind: 'tag', tag }))?.digest
}

describe('an import', () => {
  test('makes the image, and keeps a record without secrets', async () => {
    await using queue = await openQueue()
    const source = (await serveDisk()).replace('//', '//me:secret@')
    const created = await queue.create(request(`${source}?token=secret`), noKey)
    expect(created).toMatchObject({ state: 'queued', name: 'debian', tag: '12', attempts: 0 })
    const record = await ended(queue, created)
    expect(record).toMatchObject({
      state: 'succeeded',
      stage: 'commit',
      attempts: 1,
      format: 'raw',
      progress: { bytes: disk.length },
      image: { storedFormat: 'qcow2', virtualSize: disk.length, sourceBytes: disk.length },
    })
    expect(JSON.stringify(record)).not.toContain('secret')
    expect(await tagDigest()).toBe(record.image?.digest)
    const kept = await createImportLog(store.objects, log).load(new Date(0))
    expect(kept.map((stored) => stored.record)).toEqual([record])
  })

  test('of the same source has the same digest again', async () => {
    await using queue = await openQueue()
    const source = await serveDisk()
    const first = await ended(queue, await queue.create(request(source), noKey))
    const again = request(source, { replace: true })
    const second = await ended(queue, await queue.create(again, noKey))
    expect(second.image?.digest).toBe(first.image?.digest)
  })

  test('that fails says why and shows nothing', async () => {
    await using queue = await openQueue()
    const source = await serveDisk((_in, out) => void out.writeHead(404).end())
    const record = await ended(queue, await queue.create(request(source), noKey))
    expect(record).toMatchObject({
      state: 'failed',
      error: { code: 'SOURCE_NOT_FOUND', retryable: false },
    })
    expect(record.image).toBeUndefined()
    expect(await tagDigest()).toBeUndefined()
  })

  test('whose transfer was cut starts again', async () => {
    await using queue = await openQueue()
    let count = 0
    const source = await serveDisk((_in, out) => {
      out.writeHead(200, { 'content-length': disk.length })
      if (++count > 1) out.end(disk)
      else out.write(disk.subarray(0, 70_000), () => out.destroy())
    })
    const record = await ended(queue, await queue.create(request(source), noKey))
    expect(record).toMatchObject({ state: 'succeeded', attempts: 2 })
  })

  test('that is refused is not kept', async () => {
    await using queue = await openQueue()
    const source = await serveDisk()
    await ended(queue, await queue.create(request(source), noKey))
    const refused: [Partial<NewImport>, string][] = [
      [{}, 'TAG_EXISTS'],
      [{ name: 'Debian' }, 'NAME_INVALID'],
      [{ tag: '-' }, 'TAG_INVALID'],
      [{ source: '/etc/passwd' }, 'SOURCE_INVALID'],
    ]
    for (const [change, code] of refused) {
      await expect(queue.create(request(source, change), noKey)).rejects.toMatchObject({ code })
    }
    expect(await queue.list({})).toHaveLength(1)
    expect(await createImportLog(store.objects, log).load(new Date(0))).toHaveLength(1)
  })

  test('that nobody knows is told so', async () => {
    await using queue = await openQueue()
    const unknown = { code: 'IMPORT_UNKNOWN' }
    await expect(queue.get('x')).rejects.toMatchObject(unknown)
    await expect(queue.cancel('x')).rejects.toMatchObject(unknown)
    await expect(ended(queue, { id: 'x' })).rejects.toMatchObject(unknown)
  })
})

describe('a queue', () => {
  test('runs so many at a time, in order, and lists the newest first', async () => {
    await using queue = await openQueue({ maxRunning: 1 })
    await using gate = await startGatedSource(disk)
    const created: ImportRecord[] = []
    for (const tag of ['1', '2', '3'])
      created.push(await queue.create(request(gate.url, { tag }), noKey))
    await gate.held()
    const states = async () => (await queue.list({})).map(({ tag, state }) => `${tag} ${state}`)
    expect(await states()).toEqual(['3 queued', '2 queued', '1 running'])
    gate.open()
    for (const record of created) await ended(queue, record)
    expect(await states()).toEqual(['3 succeeded', '2 succeeded', '1 succeeded'])
  })

  test('lists by state and name, and no more than asked for', async () => {
    await using queue = await openQueue()
    const source = await serveDisk()
    await ended(queue, await queue.create(request(source), noKey))
    await ended(queue, await queue.create(request(source, { name: 'alpine' }), noKey))
    await ended(
      queue,
      await queue.create(request(`${source}`, { name: 'alpine', tag: '2' }), noKey),
    )
    expect(await queue.list({ name: 'alpine' })).toHaveLength(2)
    expect(await queue.list({ limit: 2 })).toHaveLength(2)
    expect(await queue.list({ state: 'failed' })).toEqual([])
  })

  test('cancels what waits, which then is never fetched', async () => {
    await using queue = await openQueue({ maxRunning: 1 })
    await using gate = await startGatedSource(disk)
    let fetched = 0
    const source = await serveDisk((_in, out) => void out.end(disk, () => fetched++))
    const first = await queue.create(request(gate.url), noKey)
    const second = await queue.create(request(source, { tag: '13' }), noKey)
    expect(await queue.cancel(second.id)).toMatchObject({ state: 'cancelled' })
    gate.open()
    expect(await ended(queue, first)).toMatchObject({ state: 'succeeded' })
    expect(await queue.cancel(second.id)).toMatchObject({ state: 'cancelled' })
    expect(fetched).toBe(0)
  })

  test('cancels what runs, showing nothing of it, and goes on', async () => {
    await using queue = await openQueue({ maxRunning: 1 })
    await using gate = await startGatedSource(disk)
    const first = await queue.create(request(gate.url), noKey)
    const second = await queue.create(request(await serveDisk(), { tag: '13' }), noKey)
    await gate.held()
    const record = await queue.cancel(first.id)
    expect(record).toMatchObject({ state: 'cancelled' })
    expect(record.finishedAt).toBeDefined()
    await gate.left()
    expect(await ended(queue, second)).toMatchObject({ state: 'succeeded' })
    expect(await tagDigest('12')).toBeUndefined()
  })

  test('leaves what is finished as it is', async () => {
    await using queue = await openQueue()
    const record = await ended(queue, await queue.create(request(await serveDisk()), noKey))
    expect(await queue.cancel(record.id)).toEqual(record)
  })
})

describe('the same key', () => {
  const key = { idempotencyKey: 'k' }

  test('with the same request is one import, also at the same moment', async () => {
    await using queue = await openQueue()
    const source = await serveDisk()
    const created = await Promise.all([1, 2, 3].map(() => queue.create(request(source), key)))
    expect(new Set(created.map(({ id }) => id)).size).toBe(1)
    const [first] = created
    if (first) await ended(queue, first)
    expect((await queue.create(request(source), key)).id).toBe(first?.id)
    expect(await queue.list({})).toHaveLength(1)
  })

  test('with another request is refused, and free again where nothing came of it', async () => {
    await using queue = await openQueue()
    const source = await serveDisk()
    const wrong = request(source, { name: 'UPPER' })
    await expect(queue.create(wrong, key)).rejects.toMatchObject({ code: 'NAME_INVALID' })
    const { id } = await queue.create(request(source), key)
    const other = request(source, { tag: '13' })
    await expect(queue.create(other, key)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
      detail: { id },
    })
    await queue.create(other, { idempotencyKey: 'other' })
    expect(await queue.list({})).toHaveLength(2)
  })

  test('is known after a restart', async () => {
    const source = await serveDisk()
    const queue = await openQueue()
    const created = await queue.create(request(source), key)
    await ended(queue, created)
    await queue[Symbol.asyncDispose]()
    await using next = await openQueue()
    expect((await next.create(request(source), key)).id).toBe(created.id)
  })
})

describe('a restart', () => {
  test('starts again what was not finished, running or queued', async () => {
    await using gate = await startGatedSource(disk)
    const queue = await openQueue({ maxRunning: 1 })
    const source = gate.url.replace('//', '//me:secret@')
    const running = await queue.create(request(source), noKey)
    const waiting = await queue.create(request(source, { tag: '13' }), noKey)
    await gate.held()
    const watching = (async () => {
      for await (const record of queue.watch(running.id, { signal })) if (isFinished(record)) break
    })()
    await queue[Symbol.asyncDispose]()
    // Watchers do not wait for what this process will not finish.
    await watching
    expect(await tagDigest()).toBeUndefined()
    gate.open()
    await using next = await openQueue()
    expect(await ended(next, running)).toMatchObject({ state: 'succeeded' })
    expect(await ended(next, waiting)).toMatchObject({ state: 'succeeded' })
  })

  test('forgets what was finished long ago, and leaves out what it cannot read', async () => {
    const queue = await openQueue()
    const old = await ended(queue, await queue.create(request(await serveDisk()), noKey))
    await queue[Symbol.asyncDispose]()
    await store.objects.put('v1/imports/broken.json', Buffer.from('{'), 'always')
    await using next = await openQueue()
    expect(await next.list({})).toHaveLength(1)
    await using later = await openQueue({ retentionMs: -hourMs })
    expect(await later.list({})).toEqual([])
    expect(await store.objects.get(`v1/imports/${old.id}.json`)).toBeUndefined()
  })
})

describe('a record that cannot be kept', () => {
  test('refuses a new import, and hurts nobody at the end of one', async () => {
    const records = createImportLog(store.objects, log)
    const full = vi.fn<ImportLog['save']>(async () => {
      throw Object.assign(new Error('disk full'), { code: 'ENOSPC' })
    })
    const wanted = request(await serveDisk())
    await using refusing = await openQueue({ records: { ...records, save: full } })
    await expect(refusing.create(wanted, noKey)).rejects.toMatchObject({ code: 'ENOSPC' })
    expect(await refusing.list({})).toEqual([])

    const save = full.mockImplementationOnce(records.save)
    await using queue = await openQueue({ records: { ...records, save } })
    const record = await ended(queue, await queue.create(wanted, noKey))
    expect(record.state).toBe('succeeded')
    expect(await tagDigest()).toBe(record.image?.digest)
    save.mockImplementation(records.save)
    const next = await queue.create({ ...wanted, tag: '13' }, noKey)
    expect(await ended(queue, next)).toMatchObject({ state: 'succeeded' })
    expect((await queue.get(record.id)).state).toBe('succeeded')
  })
})
