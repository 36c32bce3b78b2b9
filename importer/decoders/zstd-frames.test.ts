import { constants, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { chunked, chunkSizes, collect, noise } from '../../test/fixtures/chunks.ts'
import { wholeFrames } from './zstd-frames.ts'

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
  collect(wholeFrames(chunked(bytes, sizes)))

test('changes nothing, for any chunking', async () => {
  await fc.assert(
    fc.asyncProperty(chunkSizes(20_000), async (sizes) => {
      expect((await through(joined, sizes)).equals(joined)).toBe(true)
    }),
    { numRuns: 30 },
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

test('leaves what is not a frame to the decoder', async () => {
  const bytes = Buffer.concat([joined, Buffer.from('garbage')])
  expect(await through(bytes, [1000])).toHaveLength(bytes.length)
})
