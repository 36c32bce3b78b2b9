import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { digestOf } from '../core/digest.ts'
import type { HashPool } from '../core/hash-pool.ts'
import { createHttpClient } from '../core/http-client.ts'
import { createLog } from '../core/log.ts'
import { createRegistryClient } from '../core/registry-client.ts'
import type { Registry } from '../core/registry.ts'
import type { ImportEvent } from '../core/report.ts'
import { createClusterPool } from '../converter/cluster-pool.ts'
import { openStreamSource } from '../importer/sources/file-source.ts'
import { importImage } from '../importer/pipeline.ts'
import { createMetrics } from '../registry/metrics.ts'
import { createServer } from '../registry/http/server.ts'
import { smallDisk } from './fixtures/queue-setup.ts'
import { createTempFolder } from './fixtures/temp-folder.ts'
import { openTempStore } from './fixtures/temp-store.ts'
import { registryContract } from './registry-contract.ts'

interface Remote extends AsyncDisposable {
  readonly registry: Registry
  readonly hashPool: HashPool
  readonly scratchFolder: string
}

/** A client of our own server, which runs in this process. */
async function openRemote(): Promise<Remote> {
  await using owned = new AsyncDisposableStack()
  const store = owned.use(await openTempStore())
  const log = createLog('silent')
  const app = owned.use(createServer({ store, log, metrics: createMetrics(), guard: 'loopback' }))
  const http = createHttpClient(new URL(await app.listen({ host: '127.0.0.1', port: 0 })))
  owned.use(http)
  const { path: scratchFolder } = owned.use(await createTempFolder())
  const { hashPool } = store
  const registry = createRegistryClient({ http, hashPool, scratchFolder })
  const stack = owned.move()
  return { registry, hashPool, scratchFolder, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

registryContract('a server over HTTP', openRemote)

const { signal } = new AbortController()

test('a blob kept here until its commit leaves nothing behind, whichever way it ends', async () => {
  await using remote = await openRemote()
  const { blobs } = remote.registry.repository('a')
  const bytes = randomBytes(3_000_000)
  for (const end of ['commit', 'abort'] as const) {
    const writer = await blobs.create({ signal, readBack: true })
    await writer.write(bytes)
    expect(await readdir(remote.scratchFolder)).toHaveLength(1)
    await writer.finish()
    await writer[end]()
    expect(await readdir(remote.scratchFolder)).toEqual([])
  }
})

test('a blob written from its first byte on is never kept here', async () => {
  await using remote = await openRemote()
  const writer = await remote.registry.repository('a').blobs.create({ signal })
  await writer.write(randomBytes(3_000_000))
  expect(await readdir(remote.scratchFolder)).toEqual([])
  expect(await writer.finish()).toMatchObject({ scratchBytes: 0, size: 3_000_000 })
  await writer.commit()
})

test('onPush tells of bytes during the commit only, growing to all of them', async () => {
  await using remote = await openRemote()
  const { blobs } = remote.registry.repository('a')
  for (const readBack of [true, false]) {
    let pushed: number[] = []
    const onPush = (bytes: number): void => void pushed.push(bytes)
    const writer = await blobs.create({ signal, readBack, onPush })
    await writer.write(randomBytes(2_500_000))
    await writer.finish()
    expect(pushed).toEqual([])
    await writer.commit()
    expect(pushed).toEqual(pushed.toSorted((a, b) => a - b))
    // What was sent as it was written needs no sending now.
    expect(pushed.at(-1)).toBe(readBack ? 2_500_000 : undefined)
  }
})

test('a blob that the registry has already is not sent again', async () => {
  await using remote = await openRemote()
  const { blobs } = remote.registry.repository('a')
  const bytes = randomBytes(1_500_000)
  let pushed = 0
  for (let turn = 0; turn < 2; turn++) {
    pushed = 0
    const onPush = (all: number): void => void (pushed = all)
    const writer = await blobs.create({ signal, readBack: true, onPush })
    await writer.write(bytes)
    await writer.finish()
    await writer.commit()
  }
  expect(pushed).toBe(0)
  expect(await blobs.stat(digestOf(bytes))).toEqual({ size: bytes.length })
})

test('an abort in the middle of a streamed blob returns and shows nothing', async () => {
  await using remote = await openRemote()
  const { blobs } = remote.registry.repository('a')
  const bytes = randomBytes(2_000_000)
  const writer = await blobs.create({ signal })
  await writer.write(bytes)
  await writer.abort()
  expect(await blobs.stat(digestOf(bytes))).toBeUndefined()
})

test('the signal of a blob stops its way to the registry', async () => {
  await using remote = await openRemote()
  for (const readBack of [true, false]) {
    const stop = new AbortController()
    const { blobs } = remote.registry.repository('a')
    const writer = await blobs.create({ signal: stop.signal, readBack })
    await writer.write(randomBytes(100_000))
    stop.abort(new Error('no longer wanted'))
    const ending = async (): Promise<void> => {
      await writer.finish()
      await writer.commit()
    }
    await expect(ending()).rejects.toThrow('no longer wanted')
    await writer.abort()
  }
})

async function* diskBytes(): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < smallDisk.length; at += 50_000) yield smallDisk.subarray(at, at + 50_000)
}

test.each([
  ['kept here first', 'auto', ['connect', 'transfer', 'digest', 'push', 'commit']],
  ['sent as it comes', 'as-is', ['connect', 'transfer', 'digest', 'commit']],
] as const)('an import that is %s passes its stages in order', async (_what, store, expected) => {
  await using remote = await openRemote()
  await using clusterPool = createClusterPool({ threads: 1 })
  const events: ImportEvent[] = []
  const source = { ...openStreamSource('disk.raw', diskBytes()), length: smallDisk.length }
  await importImage(
    {
      openSource: () => Promise.resolve(source),
      name: 'a',
      tag: '1',
      replace: false,
      store,
      checksums: {},
      architecture: 'amd64',
    },
    { ...remote, clusterPool, maxVirtualSize: 2 ** 30 },
    { signal, report: (event) => events.push(event) },
  )
  const stages = events.flatMap((event) => (event.type === 'progress' ? [event.stage] : []))
  expect(stages.filter((stage, at) => stage !== stages[at - 1])).toEqual(expected)
})
