import { createHash } from 'node:crypto'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { CodedError } from '../core/errors.ts'
import { importStages, type ImportEvent } from '../core/report.ts'
import { createClusterPool, type ClusterPool } from '../converter/cluster-pool.ts'
import { noise } from '../test/fixtures/chunks.ts'
import { smallDisk } from '../test/fixtures/queue-setup.ts'
import { filesIn } from '../test/fixtures/store-at.ts'
import { openTempStore, type TempStore } from '../test/fixtures/temp-store.ts'
import type { ImportedImage, ImportRequest } from './import-request.ts'
import { importImage } from './pipeline.ts'
import type { Source } from './sources/source.ts'

let clusterPool: ClusterPool
let store: TempStore
let emptyStore: string[]
beforeAll(() => {
  clusterPool = createClusterPool({ threads: 1 })
})
afterAll(() => clusterPool[Symbol.asyncDispose]())
beforeEach(async () => {
  store = await openTempStore()
  emptyStore = (await filesIn(store.path)).toSorted()
})
afterEach(() => store[Symbol.asyncDispose]())

/** A source of `bytes` in chunks of a network's size that counts how often it was closed. */
function sourceOf(bytes: Uint8Array, onChunk: () => void = () => {}) {
  const state = { closed: 0 }
  async function* body(): AsyncGenerator<Uint8Array, void> {
    for (let at = 0; at < bytes.length; at += 50_000) {
      onChunk()
      yield bytes.subarray(at, at + 50_000)
    }
  }
  const source: Source = {
    label: 'http://a/disk',
    length: bytes.length,
    pin: undefined,
    offset: 0,
    body: body(),
    async [Symbol.asyncDispose]() {
      state.closed++
    },
  }
  return { state, openSource: () => Promise.resolve(source) }
}

type Change = Partial<ImportRequest> & { signal?: AbortSignal; events?: ImportEvent[] }

function run(bytes: Uint8Array, { signal, events = [], ...change }: Change = {}) {
  const { openSource } = sourceOf(bytes)
  const request = { openSource, name: 'a', tag: '1', replace: true, checksums: {} }
  const { registry, hashPool, path } = store
  return importImage(
    { ...request, store: 'auto', architecture: 'amd64', ...change },
    { registry, hashPool, clusterPool, scratchFolder: path, maxVirtualSize: 4 * 1024 * 1024 },
    { signal: signal ?? new AbortController().signal, report: (event) => events.push(event) },
  )
}

/** Nothing to be seen, and no bytes left behind. */
async function expectNothing(): Promise<void> {
  expect(await store.registry.listRepositories({})).toEqual([])
  expect((await filesIn(store.path)).toSorted()).toEqual(emptyStore)
}

test.each(['auto', 'as-is'] as const)('%s: stages only advance, bytes only grow', async (mode) => {
  const events: ImportEvent[] = []
  await run(gzipSync(smallDisk), { store: mode, events })
  const progress = events.filter((event) => event.type === 'progress')
  const order = progress.map(({ stage }) => importStages.indexOf(stage))
  expect(order).toEqual(order.toSorted((a, b) => a - b))
  expect([progress.at(0)?.stage, progress.at(-1)?.stage]).toEqual(['connect', 'commit'])
  const bytes = progress.filter(({ stage }) => stage === 'transfer').map((event) => event.bytes)
  expect(bytes).toEqual(bytes.toSorted((a, b) => a - b))
  expect(bytes.at(-1)).toBe(gzipSync(smallDisk).length)
  expect(events.filter(({ type }) => type === 'detected')).toHaveLength(1)
  expect(events.filter(({ type }) => type === 'warning')).toHaveLength(mode === 'auto' ? 0 : 1)
})

test('the same disk in any wrapping is the same layer', async () => {
  const images: ImportedImage[] = []
  const wrapped = [smallDisk, gzipSync(smallDisk), zstdCompressSync(gzipSync(smallDisk))]
  for (const bytes of wrapped) images.push(await run(bytes))
  expect(new Set(images.map(({ layerDigest }) => layerDigest)).size).toBe(1)
  expect(new Set(images.map(({ contentDigest }) => contentDigest)).size).toBe(1)
  expect(images.map(({ sourceBytes }) => sourceBytes)).toEqual(wrapped.map(({ length }) => length))
})

test('the same source is the same image, byte for byte', async () => {
  const first = await run(smallDisk)
  const again = await run(smallDisk, { tag: '2' })
  expect(again).toEqual({ ...first, tag: '2' })
})

test('checksums are of the bytes as they are transferred', async () => {
  const bytes = gzipSync(smallDisk)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  expect(await run(bytes, { checksums: { sha256 } })).toMatchObject({ format: 'raw' })
  expect(await run(smallDisk, { tag: '2', checksums: {} })).toMatchObject({ format: 'raw' })
})

test.each([
  ['a wrong checksum', smallDisk, { checksums: { md5: '0'.repeat(32) } }, 'CHECKSUM_MISMATCH'],
  [
    'a wrong checksum of what is stored as it comes',
    smallDisk,
    { store: 'as-is', checksums: { md5: '0' } },
    'CHECKSUM_MISMATCH',
  ],
  ['an empty body', Buffer.alloc(0), {}, 'FORMAT_UNKNOWN'],
  ['a page', Buffer.from('<!DOCTYPE html><html></html>'), {}, 'FORMAT_UNKNOWN'],
  ['a cut gzip', gzipSync(smallDisk).subarray(0, -9), {}, 'COMPRESSION_INVALID'],
  [
    'a disk that is too large',
    Buffer.concat([smallDisk, noise(5 * 1024 * 1024)]),
    {},
    'SIZE_EXCEEDED',
  ],
  ['one too large that hides it', gzipSync(Buffer.alloc(64 * 1024 * 1024)), {}, 'SIZE_EXCEEDED'],
] as const)('%s leaves nothing behind', async (_what, bytes, change, code) => {
  await expect(run(bytes, change)).rejects.toMatchObject({ code })
  await expectNothing()
})

test('an ISO shorter than its volume needs a length or a checksum that says it is all', async () => {
  const iso = Buffer.alloc(80 * 2048)
  iso.write('\x01CD001', 0x8000, 'latin1')
  iso.writeUInt32LE(81, 0x8050)
  iso.writeUInt16LE(2048, 0x8080)
  const untold = async () => ({ ...(await sourceOf(iso).openSource()), length: undefined })
  const nothing = { sha256: undefined }
  await expect(run(iso, { openSource: untold, checksums: nothing })).rejects.toMatchObject({
    code: 'IMAGE_INCOMPLETE',
  })
  const sha256 = createHash('sha256').update(iso).digest('hex')
  for (const change of [{}, { openSource: untold, checksums: { sha256 } }]) {
    const events: ImportEvent[] = []
    await run(iso, { ...change, events })
    expect(events).toContainEqual(expect.objectContaining({ type: 'warning' }))
  }
})

test('a source is closed once, whatever happens', async () => {
  const good = sourceOf(smallDisk)
  await run(smallDisk, { openSource: good.openSource })
  const bad = sourceOf(Buffer.from('<html>'))
  await expect(run(smallDisk, { openSource: bad.openSource })).rejects.toMatchObject({
    code: 'FORMAT_UNKNOWN',
  })
  expect([good.state.closed, bad.state.closed]).toEqual([1, 1])
})

test.each(['auto', 'as-is'] as const)('%s: an abort at any chunk leaves nothing', async (mode) => {
  const chunks = Math.ceil(smallDisk.length / 50_000)
  for (let stopAt = 1; stopAt <= chunks; stopAt++) {
    const stop = new AbortController()
    let seen = 0
    const { openSource, state } = sourceOf(smallDisk, () => {
      if (++seen === stopAt) stop.abort(new CodedError('CANCELLED', 'enough'))
    })
    await expect(
      run(smallDisk, { openSource, store: mode, signal: stop.signal }),
    ).rejects.toMatchObject({ code: 'CANCELLED' })
    expect(state.closed).toBe(1)
    await expectNothing()
  }
})

test('a tag that was taken meanwhile stays as it is', async () => {
  const first = await run(smallDisk)
  const other = Buffer.from(smallDisk)
  other.fill('other', 1000, 2000)
  await expect(run(other, { replace: false })).rejects.toMatchObject({ code: 'TAG_EXISTS' })
  const { manifests } = store.registry.repository('a')
  expect((await manifests.get({ kind: 'tag', tag: '1' }))?.digest).toBe(first.digest)
})
