import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { qemuImg, scratchFolder } from '../converter/qemu-oracle.ts'
import { keptBytes, serveDripping, type Served } from '../test/fixtures/dripping-source.ts'
import { createQueueSetup, ended, importOf, type QueueSetup } from '../test/fixtures/queue-setup.ts'
import type { NewImport } from './import-record.ts'

const MiB = 1024 * 1024
const noKey = { idempotencyKey: undefined }

/** Noise, text and holes: 40 MiB. */
const disk = Buffer.alloc(40 * MiB)
for (let at = 0; at < disk.length; at += 5 * MiB) {
  disk.set(randomBytes(2 * MiB), at)
  disk.fill('some text. ', at + 2 * MiB, at + 3 * MiB)
}
disk.set([0x55, 0xaa], 510)

const sums = (bytes: Uint8Array): NewImport['checksums'] =>
  Object.fromEntries(
    ['md5', 'sha1', 'sha256', 'sha512'].map((algorithm) => [
      algorithm,
      createHash(algorithm).update(bytes).digest('hex'),
    ]),
  )

/** Streams one after another, each of 3 MiB of the disk. */
function inStreams(raw: Uint8Array, pack: (bytes: Uint8Array) => Uint8Array): Buffer {
  const streams: Uint8Array[] = []
  for (let at = 0; at < raw.length; at += 3 * MiB)
    streams.push(pack(raw.subarray(at, at + 3 * MiB)))
  return Buffer.concat(streams)
}

const piped =
  (command: string, ...args: string[]) =>
  (input: Uint8Array): Buffer =>
    execFileSync(command, [...args, '-c'], { input, maxBuffer: 64 * MiB })

async function imageOf(raw: Uint8Array, format: string): Promise<Buffer> {
  await using folder = await scratchFolder()
  await writeFile(folder.file('raw'), raw)
  await qemuImg('convert', '-f', 'raw', '-O', format, folder.file('raw'), folder.file('image'))
  return await readFile(folder.file('image'))
}

let qcow2: Buffer
let vmdk: Buffer
let setup: QueueSetup
beforeAll(async () => {
  qcow2 = await imageOf(disk, 'qcow2')
  vmdk = await imageOf(disk, 'vmdk')
})

/** Imports with a restart of the server in the middle; answers the image. */
async function importTwice(served: Served, change: Partial<NewImport>) {
  const first = await setup.openQueue()
  const { id } = await first.create(importOf(served.url, { replace: true, ...change }), noKey)
  await expect
    .poll(() => keptBytes(setup, id), { timeout: 20_000 })
    .toBeGreaterThan(served.heldAt - 5 * MiB)
  await first[Symbol.asyncDispose]()
  served.open()
  await using second = await setup.openQueue()
  const record = await ended(second, { id })
  expect(record.error).toBeUndefined()
  expect(record.attempts).toBe(1)
  await expect.poll(() => setup.store.objects.list(`v1/imports-state/${id}/`, {})).toEqual([])
  expect(await setup.store.objects.list('v1/uploads/', {})).toEqual([])
  return record.image
}

/** The image of an import that nothing disturbs. */
async function importOnce(bytes: Uint8Array, change: Partial<NewImport>) {
  await using queue = await setup.openQueue()
  const served = await serveDripping(setup, bytes)
  served.open()
  const record = importOf(served.url, { replace: true, ...change })
  return (await ended(queue, await queue.create(record, noKey))).image
}

describe.each<{ on: string; options: Parameters<typeof createQueueSetup>[0] }>([
  { on: 'a folder', options: {} },
  {
    on: 'storage that is only written in order, as a bucket is',
    options: { measure: (storage) => ({ ...storage, files: undefined }) },
  },
])('on $on an import goes on where the process before was stopped', ({ options }) => {
  beforeAll(async () => {
    setup = await createQueueSetup(options)
  })
  afterAll(() => setup[Symbol.asyncDispose]())

  test.each([
    { what: 'a raw disk that is encoded', bytes: () => disk, store: 'auto' as const },
    { what: 'a raw disk that is copied', bytes: () => disk, store: 'as-is' as const },
    { what: 'a qcow2 that is copied', bytes: () => qcow2, store: 'auto' as const },
  ])('$what', async ({ bytes, store }) => {
    const whole = await importOnce(bytes(), { store })
    const served = await serveDripping(setup, bytes())
    const image = await importTwice(served, { store })
    expect(image?.layerDigest).toBe(whole?.layerDigest)
    expect(image?.contentDigest).toBe(whole?.contentDigest)
    expect(image?.sourceBytes).toBe(bytes().length)
    expect(served.starts).toHaveLength(2)
    expect(served.starts[1]).toBeGreaterThan(served.heldAt - 6 * MiB)
  })

  test('with every checksum, from a place where they can go on', async () => {
    const served = await serveDripping(setup, disk)
    const image = await importTwice(served, { checksums: sums(disk) })
    expect(image?.layerDigest).toBe((await importOnce(disk, {}))?.layerDigest)
    expect(served.starts[1]).toBeGreaterThanOrEqual(16 * MiB)
  })

  test.each([
    { what: 'gzip members', pack: (bytes: Uint8Array) => gzipSync(bytes, { level: 1 }) },
    { what: 'zstd frames', pack: (bytes: Uint8Array) => zstdCompressSync(bytes) },
    { what: 'xz streams', pack: piped('xz', '-0') },
    { what: 'lz4 frames', pack: piped('lz4', '-1', '-q') },
  ])('a disk of several $what, from where one begins', async ({ pack }) => {
    const packed = inStreams(disk, pack)
    const served = await serveDripping(setup, packed)
    const image = await importTwice(served, {})
    const whole = await importOnce(disk, {})
    expect(image?.layerDigest).toBe(whole?.layerDigest)
    expect(image?.contentDigest).toBe(whole?.contentDigest)
    expect(image?.sourceBytes).toBe(packed.length)
    expect(served.starts[1]).toBeGreaterThan(2 * MiB)
  })

  test('a disk in one xz stream of several blocks, from where one begins', async () => {
    const packed = piped('xz', '-0', '-T2', '--block-size=3MiB')(disk)
    const served = await serveDripping(setup, packed)
    const image = await importTwice(served, {})
    expect(image?.layerDigest).toBe((await importOnce(disk, {}))?.layerDigest)
    expect(served.starts[1]).toBeGreaterThan(2 * MiB)
  })

  test('a disk of several zstd frames with every checksum', async () => {
    const raw = randomBytes(disk.length)
    const packed = inStreams(raw, (bytes) => zstdCompressSync(bytes))
    const served = await serveDripping(setup, packed)
    const image = await importTwice(served, { checksums: sums(packed) })
    expect(image?.layerDigest).toBe((await importOnce(raw, {}))?.layerDigest)
    expect(served.starts[1]).toBeGreaterThanOrEqual(16 * MiB)
  })

  test('a server without ranges is read up to where a frame begins', async () => {
    const packed = inStreams(disk, (bytes) => zstdCompressSync(bytes))
    const served = await serveDripping(setup, packed, { ranges: false })
    const image = await importTwice(served, { checksums: sums(packed) })
    expect(image?.layerDigest).toBe((await importOnce(disk, {}))?.layerDigest)
    expect(served.starts).toEqual([0, 0])
  })

  test('a compressed disk is decoded again, and what was written is kept', async () => {
    const packed = gzipSync(disk, { level: 1 })
    const served = await serveDripping(setup, packed)
    const image = await importTwice(served, { checksums: sums(packed) })
    expect(image?.layerDigest).toBe((await importOnce(disk, {}))?.layerDigest)
    expect(served.starts).toEqual([0, 0])
  })

  test('a vmdk is read by its tables, and on from the place on its disk', async () => {
    const served = await serveDripping(setup, vmdk, { isAnnounced: true })
    const image = await importTwice(served, {})
    expect(image?.layerDigest).toBe((await importOnce(disk, {}))?.layerDigest)
    // Twice the head and the tables, then what was not there yet.
    expect(served.starts.filter((start) => start > served.heldAt - 6 * MiB)).not.toEqual([])
    expect(image?.sourceBytes).toBeLessThan(vmdk.length * 0.8)
  })

  test('a server without ranges is read up to there', async () => {
    const served = await serveDripping(setup, disk, { ranges: false })
    const image = await importTwice(served, {})
    expect(image?.layerDigest).toBe((await importOnce(disk, {}))?.layerDigest)
    expect(served.starts).toEqual([0, 0])
  })

  test('from the start where the content is another one', async () => {
    const served = await serveDripping(setup, disk, {
      etag: (request) => (request === 0 ? '"one"' : '"two"'),
    })
    const image = await importTwice(served, {})
    expect(image?.layerDigest).toBe((await importOnce(disk, {}))?.layerDigest)
    expect(served.starts).toEqual([0, 0])
  })
})
