import { execFileSync } from 'node:child_process'
import { crc32, constants, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { CodedError } from '../../core/errors.ts'
import { chunked, chunkSizes, collect, noise } from '../../test/fixtures/chunks.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { decompress, detectCompression } from './decompress.ts'

const zstdParams = { params: { [constants.ZSTD_c_checksumFlag]: 1 } }
const limits = { maxVirtualSize: 2 ** 40, onBoundary: () => {} }
const gzip = (bytes: Uint8Array): Buffer => gzipSync(bytes)
const zstd = (bytes: Uint8Array): Buffer => zstdCompressSync(bytes, zstdParams)
const piped =
  (command: string, ...args: string[]) =>
  (bytes: Uint8Array): Buffer =>
    execFileSync(command, args, { input: bytes })
const xz = piped('xz', '-0', '-c')
const bzip2 = piped('bzip2', '-1', '-c')
const lz4 = piped('lz4', '-1', '-c', '-q')

async function unpack(bytes: Uint8Array, sizes: readonly number[] = [bytes.length]) {
  const { body, wrappings } = await decompress(chunked(bytes, sizes), limits)
  return { wrappings, bytes: await collect(body) }
}

async function failure(bytes: Uint8Array, sizes?: readonly number[]): Promise<string> {
  return (await refusalIn(unpack(bytes, sizes))) ?? 'taken'
}

/** Text and noise: both kinds of blocks in every format. */
const plain = Buffer.concat([Buffer.alloc(3000, 'text that shrinks '), noise(1000)])
const other = Buffer.from('the second part')
const garbage = Buffer.from('garbage')

const engines = [
  { wrapping: 'gzip', pack: gzip, runs: 60, chunkings: 4 },
  { wrapping: 'zstd', pack: zstd, runs: 60, chunkings: 4 },
  // Each run starts a thread; the tests of the decoders have the many runs.
  { wrapping: 'xz', pack: xz, runs: 2, chunkings: 1 },
  { wrapping: 'bzip2', pack: bzip2, runs: 2, chunkings: 1 },
  { wrapping: 'lz4', pack: lz4, runs: 2, chunkings: 1 },
] as const

describe.each(engines)('$wrapping', ({ wrapping, pack, runs, chunkings }) => {
  const packed = pack(plain)
  const second = pack(other)
  const empty = pack(Buffer.alloc(0))

  test('unpacks one part, for any chunking', async () => {
    await fc.assert(
      fc.asyncProperty(chunkSizes(700), async (sizes) => {
        const { bytes, wrappings } = await unpack(packed, sizes)
        expect(wrappings).toEqual([wrapping])
        expect(bytes.equals(plain)).toBe(true)
      }),
      { numRuns: runs },
    )
  })

  test('takes several parts, empty ones too, as one stream, for any chunking', async () => {
    const joined = Buffer.concat([packed, empty, second, packed])
    const whole = Buffer.concat([plain, other, plain])
    await fc.assert(
      fc.asyncProperty(chunkSizes(700), async (sizes) => {
        expect((await unpack(joined, sizes)).bytes.equals(whole)).toBe(true)
      }),
      { numRuns: runs },
    )
  })

  test('unpacks what is empty', async () => {
    expect((await unpack(empty)).bytes).toHaveLength(0)
  })

  test('refuses what was cut anywhere', async () => {
    const magic = 10
    const end = fc.integer({ min: magic, max: packed.length - 1 })
    const half = Math.floor(packed.length / 2)
    await fc.assert(
      fc.asyncProperty(end, chunkSizes(700), async (at, sizes) => {
        expect(await failure(packed.subarray(0, at), sizes)).toBe('COMPRESSION_INVALID')
      }),
      {
        numRuns: runs,
        examples: [
          [half, [100]],
          [packed.length - 1, [packed.length]],
        ],
      },
    )
  })

  test('refuses a second part that was cut anywhere', async () => {
    const joined = Buffer.concat([packed, second])
    const end = fc.integer({ min: packed.length + 1, max: joined.length - 1 })
    await fc.assert(
      fc.asyncProperty(end, chunkSizes(700), async (at, sizes) => {
        expect(await failure(joined.subarray(0, at), sizes)).toBe('COMPRESSION_INVALID')
      }),
      { numRuns: runs, examples: [[packed.length + 1, [packed.length]]] },
    )
  })

  test('gives the right bytes or a refusal where a byte was changed', async () => {
    const at = fc.nat(packed.length - 1)
    await fc.assert(
      fc.asyncProperty(at, fc.integer({ min: 1, max: 255 }), async (position, change) => {
        const damaged = Buffer.from(packed)
        damaged[position] = (packed[position] ?? 0) ^ change
        if (detectCompression(damaged) !== wrapping) return
        const isRight = unpack(damaged).then(({ bytes }) => bytes.equals(plain))
        const refusal = await refusalIn(isRight)
        expect(refusal ?? (await isRight)).not.toBe(false)
      }),
      { numRuns: runs * 2 },
    )
  })

  test('refuses other bytes after the end, in one chunk or many', async () => {
    for (const tail of [garbage, Buffer.from('x'), Buffer.alloc(300_000, 'x')]) {
      const joined = Buffer.concat([packed, tail])
      for (const size of [1000, joined.length, packed.length, 100_000].slice(0, chunkings)) {
        expect(await failure(joined, [size])).toBe('COMPRESSION_INVALID')
      }
    }
  })

  test('takes zeros after the end', async () => {
    for (const size of [3, 4, 600_000, 1, 2, 512].slice(0, 3 * chunkings)) {
      const padded = Buffer.concat([packed, Buffer.alloc(size)])
      // Of xz the format itself says it: fours.
      const allowed = wrapping !== 'xz' || size % 4 === 0
      const expected = allowed ? 'taken' : 'COMPRESSION_INVALID'
      for (const chunk of [1000, padded.length, packed.length].slice(0, chunkings)) {
        expect({ size, outcome: await failure(padded, [chunk]) }).toEqual({
          size,
          outcome: expected,
        })
      }
    }
  })

  test('refuses other bytes after zeros', async () => {
    const joined = Buffer.concat([packed, Buffer.alloc(400_000), garbage])
    expect(await failure(joined, [1000])).toBe('COMPRESSION_INVALID')
  })

  test('passes on the failure of its source, even after the last byte', async () => {
    for (const length of [8, 100, packed.length]) {
      async function* source(): AsyncGenerator<Uint8Array> {
        yield packed.subarray(0, length)
        throw new CodedError('SOURCE_TRUNCATED', 'cut')
      }
      const unpacking = decompress(source(), limits).then(({ body }) => collect(body))
      await expect(unpacking).rejects.toMatchObject({ code: 'SOURCE_TRUNCATED' })
    }
  })

  test('closes its source when the reader stops early', async () => {
    const state = { closed: false }
    async function* source(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield packed
      } finally {
        state.closed = true
      }
    }
    const { body } = await decompress(source(), limits)
    for await (const chunk of body) {
      expect(chunk.length).toBeGreaterThan(0)
      break
    }
    await vi.waitFor(() => expect(state.closed).toBe(true))
  })

  test('unpacks twice, and refuses three times with a reason', async () => {
    const twice = pack(packed)
    const thrice = pack(twice)
    const { bytes, wrappings } = await unpack(twice, [900])
    expect({ same: bytes.equals(plain), wrappings }).toEqual({
      same: true,
      wrappings: [wrapping, wrapping],
    })
    expect(await failure(thrice, [900])).toBe('FORMAT_UNSUPPORTED')
  })

  test('keeps up with output far larger than the input', async () => {
    const size = 8 * 1024 * 1024 + 5
    const zeros = pack(Buffer.alloc(size))
    const { body } = await decompress(chunked(zeros, [1000]), limits)
    let total = 0
    for await (const chunk of body) {
      expect(chunk.length).toBeLessThanOrEqual(1024 * 1024)
      expect(chunk.every((byte) => byte === 0)).toBe(true)
      total += chunk.length
    }
    expect(total).toBe(size)
  })
})

test('what is not compressed goes through as it is, however short', async () => {
  for (const bytes of [
    Buffer.alloc(0),
    Buffer.from('x'),
    Buffer.from('1f8b', 'hex'),
    noise(5000),
  ]) {
    expect(await unpack(bytes, [3])).toEqual({ wrappings: [], bytes })
  }
})

test('gzip in xz and zstd in gzip are told from the outside in', async () => {
  expect((await unpack(xz(gzip(plain)))).wrappings).toEqual(['xz', 'gzip'])
  expect((await unpack(gzip(zstd(plain)))).wrappings).toEqual(['gzip', 'zstd'])
})

test.each([
  ['1f8b08', 'gzip'],
  ['1f8b00', undefined],
  ['fd377a585a00', 'xz'],
  ['fd377a585a01', undefined],
  ['425a6839314159265359', 'bzip2'],
  ['425a6831177245385090', 'bzip2'],
  ['425a6830314159265359', undefined],
  ['425a6839314159265358', undefined],
  ['04224d18', 'lz4'],
  ['04224d19', undefined],
  ['02214c18', 'lz4'],
  ['28b52ffd', 'zstd'],
  ['502a4d18', 'zstd'],
  ['5f2a4d18', 'zstd'],
  ['602a4d18', undefined],
  ['1f8b', undefined],
  ['', undefined],
])('the first bytes %s mean %s', (hex, compression) => {
  expect(detectCompression(Buffer.from(hex, 'hex'))).toBe(compression)
})

describe('where a part ends on the border of what is read at once', () => {
  const border = 256 * 1024

  /** A gzip member of exactly `border` bytes: a long file name fills it up. */
  function gzipOf(contents: Uint8Array): Buffer {
    const data = deflateRawSync(contents)
    const end = Buffer.alloc(8)
    end.writeUInt32LE(crc32(contents), 0)
    end.writeUInt32LE(contents.length, 4)
    const name = Buffer.alloc(border - 10 - data.length - end.length, 'n')
    name[name.length - 1] = 0
    const head = Buffer.from([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3])
    return Buffer.concat([head, name, data, end])
  }

  /** Frames of exactly `border` bytes: a skippable one fills it up. */
  function zstdOf(contents: Uint8Array): Buffer {
    const frame = zstd(contents)
    const skippable = Buffer.alloc(border - frame.length)
    skippable.writeUInt32LE(0x184d2a50, 0)
    skippable.writeUInt32LE(skippable.length - 8, 4)
    return Buffer.concat([skippable, frame])
  }

  test.each([
    ['gzip', gzipOf],
    ['zstd', zstdOf],
  ])('%s takes the next part and refuses anything else', async (_, partOf) => {
    const part = partOf(plain)
    expect(part).toHaveLength(border)
    expect((await unpack(part)).bytes.equals(plain)).toBe(true)
    const joined = Buffer.concat([part, part, partOf(other)])
    const whole = Buffer.concat([plain, plain, other])
    expect((await unpack(joined)).bytes.equals(whole)).toBe(true)
    expect(await failure(Buffer.concat([part, garbage]))).toBe('COMPRESSION_INVALID')
    expect(await failure(Buffer.concat([part, part.subarray(0, 5)]))).toBe('COMPRESSION_INVALID')
    const padded = Buffer.concat([part, Buffer.alloc(border + 1)])
    expect(await failure(padded)).toBe('taken')
  })
})

test('needs no program', async () => {
  const packed = engines.map(({ pack }) => pack(plain))
  vi.stubEnv('PATH', '')
  const unpacked = await Promise.all(packed.map((bytes) => unpack(bytes)))
  vi.unstubAllEnvs()
  for (const { bytes } of unpacked) expect(bytes.equals(plain)).toBe(true)
})
