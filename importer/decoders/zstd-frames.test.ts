import { constants, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { chunked, chunkSizes, collect, noise } from '../../test/fixtures/chunks.ts'
import { zstdPieces } from './zstd-frames.ts'

/** Frames of every shape: with and without a checksum or a size, of several kinds of blocks. */
function frame(contents: Uint8Array, checksum: 0 | 1, contentSize: 0 | 1): Buffer {
  return zstdCompressSync(contents, {
    params: {
      [constants.ZSTD_c_checksumFlag]: checksum,
      [constants.ZSTD_c_contentSizeFlag]: contentSize,
    },
    ...(contentSize ? { pledgedSrcSize: contents.length } : {}),
  })
}

function skippable(size: number): Buffer {
  const bytes = Buffer.alloc(8 + size, 'x')
  bytes.writeUInt32LE(0x184d2a5d, 0)
  bytes.writeUInt32LE(size, 4)
  return bytes
}

const text = Buffer.alloc(3000, 'text that shrinks ')
const frames = [
  frame(text, 1, 1),
  skippable(5000),
  frame(Buffer.alloc(0), 1, 0),
  frame(Buffer.concat([noise(500), text]), 0, 0),
  skippable(0),
  frame(Buffer.alloc(300_000), 0, 1),
  frame(noise(200_000), 1, 0),
]
const joined = Buffer.concat(frames)
const borders = frames.map((_, count) => Buffer.concat(frames.slice(0, count)).length)

const through = (bytes: Uint8Array, sizes: readonly number[]) =>
  collect(contents(chunked(bytes, sizes)))

/** Of the pieces; each is given back at once. */
async function* contents(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  for await (const { bytes, release } of zstdPieces(body)) {
    yield Buffer.from(bytes)
    bytes.fill(0xdd)
    release()
  }
}

test('changes nothing, for any chunking', async () => {
  await fc.assert(
    fc.asyncProperty(chunkSizes(20_000), async (sizes) => {
      expect((await through(joined, sizes)).equals(joined)).toBe(true)
    }),
    { numRuns: 30 },
  )
})

test('a group begins with a frame and holds a mebibyte, for any chunking', async () => {
  const many = Buffer.concat(Array.from({ length: 20 }, () => joined))
  await fc.assert(
    fc.asyncProperty(chunkSizes(300_000), async (sizes) => {
      const groups: Buffer[] = []
      for await (const { bytes, startsGroup } of zstdPieces(chunked(many, sizes))) {
        if (startsGroup) groups.push(Buffer.alloc(0))
        groups.push(Buffer.concat([groups.pop() ?? Buffer.alloc(0), bytes]))
      }
      expect(Buffer.concat(groups).equals(many)).toBe(true)
      expect(groups.length).toBeGreaterThan(2)
      let at = 0
      for (const group of groups) {
        expect(borders).toContain(at % joined.length)
        at += group.length
        expect(group.length >= 2 ** 20 || at === many.length).toBe(true)
      }
    }),
    { numRuns: 10 },
  )
})

test('takes an end between two frames', async () => {
  for (const end of borders)
    expect(await through(joined.subarray(0, end), [7777])).toHaveLength(end)
})

test('refuses an end anywhere else', async () => {
  const near = fc
    .tuple(fc.constantFrom(...borders), fc.integer({ min: -12, max: 12 }))
    .map(([border, shift]) => border + shift)
  const end = fc
    .oneof(near, fc.nat(joined.length - 1))
    .filter((at) => at > 0 && at < joined.length && !borders.includes(at))
  await fc.assert(
    fc.asyncProperty(end, chunkSizes(20_000), async (at, sizes) => {
      await expect(through(joined.subarray(0, at), sizes)).rejects.toMatchObject({
        code: 'COMPRESSION_INVALID',
      })
    }),
    { numRuns: 200 },
  )
})

test('takes zeros behind the end, and gives none of them', async () => {
  for (const size of [1, 2, 3, 4, 5, 300_000]) {
    const padded = Buffer.concat([joined, Buffer.alloc(size)])
    expect((await through(padded, [1000])).equals(joined)).toBe(true)
    expect((await through(padded, [joined.length])).equals(joined)).toBe(true)
  }
})

test('refuses anything else behind the end', async () => {
  const tails = ['garbage', 'x', '\0x', '\0\0\0\0\0\0x', '(', '\x28\xb5\x2f\xfc']
  for (const tail of tails) {
    const bytes = Buffer.concat([joined, Buffer.from(tail, 'latin1')])
    for (const size of [1000, bytes.length, joined.length, 1]) {
      await expect(through(bytes, [size])).rejects.toMatchObject({ code: 'COMPRESSION_INVALID' })
    }
  }
})

describe('the window', () => {
  /** The head of a frame: its magic, descriptor, and those fields. */
  const head = (descriptor: number, ...fields: number[]) =>
    Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...fields])

  test.each([
    ['of a log and a fraction', head(0, ((27 - 10) << 3) | 1)],
    ['of the largest log', head(0, 0xff)],
    ['of a single segment', head(0xa0, 1, 0, 0, 8)],
    ['of a single segment of 8 bytes', head(0xe0, 0, 0, 0, 0, 1, 0, 0, 0)],
  ])('%s is refused over 128 MiB, and named', async (_, bytes) => {
    await expect(through(bytes, [1])).rejects.toMatchObject({
      code: 'SIZE_EXCEEDED',
      message: expect.stringMatching(/window of \d+ bytes .* allowed 134217728/),
    })
  })

  test.each([
    ['of a log and a fraction', head(0, (17 << 3) | 0)],
    ['of a single segment', head(0xa0, 0, 0, 0, 8)],
    ['of a single segment of 2 bytes', head(0x60, 0xff, 0xff)],
  ])('%s is taken up to there', async (_, bytes) => {
    await expect(through(bytes, [1])).rejects.toMatchObject({ code: 'COMPRESSION_INVALID' })
  })
})
