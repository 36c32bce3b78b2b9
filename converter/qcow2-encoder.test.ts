import { createCipheriv, createHash } from 'node:crypto'
import { open, readdir, writeFile } from 'node:fs/promises'
import * as fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import type { Bytes } from '../core/streams.ts'
import { createClusterPool } from './cluster-pool.ts'
import { checkQcow2Complete } from './qcow2-check.ts'
import { encodeQcow2, encoderVersion, metadataBound, type EncodeOptions } from './qcow2-encoder.ts'
import { parseQcow2Header } from './formats/qcow2-header.ts'
import { qemuImg, qemuVirtualSize, scratchFolder } from './qemu-oracle.ts'

const pool = createClusterPool({ threads: 2 })
afterAll(() => pool[Symbol.asyncDispose]())

const cluster = 64 * 1024
const MiB = 1024 * 1024
const zeros = Buffer.alloc(MiB)

interface Encoded {
  readonly file: Buffer
  readonly contentDigest: string
  readonly virtualSize: number
  readonly sourceSize: number
  readonly metadataSize: number
}

async function encode(raw: Bytes, options: Partial<EncodeOptions> = {}): Promise<Encoded> {
  const data: Buffer[] = []
  await using encoded = await encodeQcow2(raw, {
    write: async (chunk) => void data.push(Buffer.from(chunk)),
    maxVirtualSize: 2 ** 40,
    spillFolder: '/nonexistent',
    signal: new AbortController().signal,
    pool,
    ...options,
  })
  const { contentDigest, virtualSize, sourceSize, metadataSize, dataSize } = encoded
  const head: Buffer[] = []
  for await (const chunk of encoded.metadata()) head.push(Buffer.from(chunk))
  const file = Buffer.concat([...head, ...data])
  expect(Buffer.concat(head).length).toBe(metadataSize)
  expect(file.length).toBe(metadataSize + dataSize)
  expect(metadataSize).toBeLessThanOrEqual(metadataBound(virtualSize))
  return { file, contentDigest, virtualSize, sourceSize, metadataSize }
}

/** One reused buffer, as sources may do it. */
async function* chunked(raw: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.alloc(Math.max(...sizes))
  for (let at = 0, turn = 0; at < raw.length; turn++) {
    const part = raw.subarray(at, at + (sizes[turn % sizes.length] ?? 1))
    buffer.set(part)
    yield buffer.subarray(0, part.length)
    buffer.fill(0xff)
    at += part.length
  }
}

/** The same bytes on every machine: a key stream, or text. */
function noise(size: number, seed: number): Buffer {
  const key = Buffer.alloc(16, seed)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size))
}

function text(size: number, seed: number): Buffer {
  return Buffer.from(
    Array.from({ length: size / 8 + 1 }, (_, at) => `line ${(at * seed) % 977}\n`).join(''),
  ).subarray(0, size)
}

function contentDigestByHand(raw: Buffer, virtualSize: number): string {
  const disk = Buffer.concat([raw, Buffer.alloc(virtualSize - raw.length)])
  const number = (value: number): Buffer => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64BE(BigInt(value))
    return bytes
  }
  const hash = createHash('sha256').update('dvcr-content-v1\n').update(number(virtualSize))
  for (let at = 0; at < disk.length; at += 4 * MiB) {
    const chunk = disk.subarray(at, at + 4 * MiB)
    if (chunk.every((byte) => byte === 0)) continue
    hash.update(number(at / (4 * MiB))).update(createHash('sha256').update(chunk).digest())
  }
  return `sha256:${hash.digest('hex')}`
}

async function writeSparse(path: string, raw: Bytes): Promise<void> {
  await using file = await open(path, 'w')
  let size = 0
  for await (const chunk of raw) {
    if (Buffer.compare(chunk, zeros.subarray(0, chunk.length)) !== 0)
      await file.write(chunk, 0, chunk.length, size)
    size += chunk.length
  }
  await file.truncate(size)
}

/** Qemu-img finds no error, no leak, the right size and the same content. */
async function expectSameDisk(raw: Bytes, { file, virtualSize }: Encoded): Promise<void> {
  await using folder = await scratchFolder()
  const [rawPath, path] = [folder.file('raw'), folder.file('qcow2')]
  await Promise.all([writeSparse(rawPath, raw), writeFile(path, file)])
  await qemuImg('check', '-q', '-f', 'qcow2', path)
  expect(await qemuVirtualSize(path, 'qcow2')).toBe(virtualSize)
  expect(await qemuImg('info', '-f', 'qcow2', path)).toContain('compression type: zstd')
  await qemuImg('compare', '-q', '-f', 'raw', '-F', 'qcow2', rawPath, path)
}

const piece = fc.oneof(
  { weight: 2, arbitrary: fc.nat(12 * cluster).map((size) => Buffer.alloc(size)) },
  fc.tuple(fc.nat(3 * cluster), fc.nat(99)).map(([size, seed]) => noise(size, seed)),
  fc.tuple(fc.nat(8 * cluster), fc.nat(99)).map(([size, seed]) => text(size, seed)),
)
const disk = fc
  .array(piece, { minLength: 1, maxLength: 10 })
  .map((pieces) => Buffer.concat([...pieces, Buffer.from('x')]))

test('writes what qemu-img finds clean and identical', async () => {
  await fc.assert(
    fc.asyncProperty(disk, async (raw) => {
      const encoded = await encode(chunked(raw, [MiB]))
      expect(encoded.sourceSize).toBe(raw.length)
      expect(encoded.virtualSize).toBe(Math.ceil(raw.length / 512) * 512)
      expect(encoded.contentDigest).toBe(contentDigestByHand(raw, encoded.virtualSize))
      await expectSameDisk(chunked(raw, [MiB]), encoded)
    }),
    { numRuns: 20 },
  )
}, 60_000)

test('gives the same bytes for any chunking and any number of threads', async () => {
  await using single = createClusterPool({ threads: 1 })
  const sizes = fc.array(fc.integer({ min: 500, max: 2 * MiB }), { minLength: 1, maxLength: 5 })
  await fc.assert(
    fc.asyncProperty(disk, sizes, async (raw, chunkSizes) => {
      const whole = await encode(chunked(raw, [raw.length]))
      const pieces = await encode(chunked(raw, chunkSizes), { pool: single })
      expect(pieces.contentDigest).toBe(whole.contentDigest)
      expect(Buffer.compare(pieces.file, whole.file)).toBe(0)
    }),
    { numRuns: 20 },
  )
}, 60_000)

/** Crosses an L2 table, several batches and gaps before few and many plain clusters. */
async function* largeDisk(): AsyncGenerator<Uint8Array> {
  yield text(3 * cluster + 5, 7)
  yield noise(3 * cluster - 5, 1)
  yield text(40 * cluster, 11)
  yield noise(20 * cluster, 2)
  yield text(2 * cluster, 13)
  for (let count = 0; count < 1100; count++) yield zeros
  yield text(100_001, 17)
}

test('is pinned: another digest here needs another encoder version', async () => {
  const { file, contentDigest } = await encode(largeDisk())
  const sha256 = createHash('sha256').update(file).digest('hex')
  expect({ encoderVersion, sha256, contentDigest }).toMatchInlineSnapshot(`
    {
      "contentDigest": "sha256:da1f45f21cb5d9e9e17cf6aacc74c3e5a897e9c0a949b2ca6b5218971915d484",
      "encoderVersion": "dvcr-qcow2/1 zstd-1.5.7/1",
      "sha256": "ba5d820421f215438c6207fc875379b6de18ca6048a8908a98d7a4ec51d73d15",
    }
  `)
})

test('leaves out L2 tables of zeros and keeps the others in guest order', async () => {
  const encoded = await encode(largeDisk())
  await expectSameDisk(largeDisk(), encoded)
  const { file, metadataSize } = encoded
  const header = parseQcow2Header(file.subarray(0, cluster))
  const l1 = Array.from({ length: 3 }, (_, at) => file.readBigUInt64BE(header.l1Offset + 8 * at))
  const l2 = (at: number): bigint => (1n << 63n) | BigInt(metadataSize - at * cluster)
  expect(l1).toEqual([l2(2), 0n, l2(1)])
})

test('gives the same bytes when its tables spill, and leaves no file', async () => {
  await using folder = await scratchFolder()
  const spilled = await encode(largeDisk(), { spillFolder: folder.file('.'), spillBytes: 1 })
  const kept = await encode(largeDisk())
  expect(Buffer.compare(spilled.file, kept.file)).toBe(0)
  expect(spilled.contentDigest).toBe(kept.contentDigest)
  expect(await readdir(folder.file('.'))).toEqual([])
})

test('passes the completeness check that imported images have to pass', async () => {
  const { file } = await encode(largeDisk())
  const options = {
    readAt: async (offset: number, length: number) => file.subarray(offset, offset + length),
    fileSize: file.length,
    signal: new AbortController().signal,
  }
  const { allocatedClusters } = await checkQcow2Complete(parseQcow2Header(file), options)
  expect(allocatedClusters).toBe(6 + 40 + 20 + 2 + 2)
})

test('stores a disk of zeros as metadata only', async () => {
  const encoded = await encode(chunked(Buffer.alloc(5 * MiB + 1), [MiB]))
  expect(encoded.file.length).toBe(encoded.metadataSize)
  expect(encoded.metadataSize).toBe(4 * cluster)
  await expectSameDisk(chunked(Buffer.alloc(5 * MiB + 1), [MiB]), encoded)
})

test('runs several encodes at once on one pool', async () => {
  const disks = Array.from({ length: 6 }, (_, seed) => text(9 * MiB, seed + 3))
  const together = await Promise.all(disks.map((raw) => encode(chunked(raw, [MiB]))))
  for (const [at, raw] of disks.entries()) {
    const alone = await encode(chunked(raw, [MiB]))
    expect(together[at]?.contentDigest).toBe(alone.contentDigest)
    expect(together[at]?.file.equals(alone.file)).toBe(true)
  }
})

test('reserves enough for the worst disk', () => {
  expect(metadataBound(512)).toBe(5 * cluster)
  expect(metadataBound(2 ** 40)).toBeLessThan(2 ** 40 / 4000)
})

test('refuses more than the limit', async () => {
  const raw = text(MiB + 1, 3)
  await expect(encode(chunked(raw, [999]), { maxVirtualSize: MiB })).rejects.toMatchObject({
    code: 'SIZE_EXCEEDED',
  })
  await encode(chunked(raw, [999]), { maxVirtualSize: MiB + 1 })
})

test('ends with the reason of the signal though the source is silent', async () => {
  const abort = new AbortController()
  const reason = new Error('cancelled')
  async function* silent(): AsyncGenerator<Uint8Array> {
    yield text(20 * MiB, 3)
    setImmediate(() => abort.abort(reason))
    await new Promise(() => {})
  }
  await expect(encode(silent(), { signal: abort.signal })).rejects.toBe(reason)
  const raw = text(MiB, 3)
  await expectSameDisk(chunked(raw, [MiB]), await encode(chunked(raw, [MiB])))
})

test('passes on the failure of the source and of the target', async () => {
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield text(5 * MiB, 3)
    throw new Error('source broke')
  }
  await expect(encode(failing())).rejects.toThrow('source broke')
  const write = (): Promise<void> => Promise.reject(new Error('target broke'))
  await expect(encode(chunked(noise(20 * MiB, 1), [MiB]), { write })).rejects.toThrow(
    'target broke',
  )
})
