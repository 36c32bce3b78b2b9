import { constants, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { CodedError } from '../../core/errors.ts'
import { chunked, chunkSizes, collect, noise } from '../../test/fixtures/chunks.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { decodeZstd } from './zstd-stage.ts'

const mebibyte = 1024 * 1024
const incompressible = noise(20 * mebibyte)

function frame(contents: Uint8Array, windowLog?: number): Buffer {
  return zstdCompressSync(contents, {
    params: {
      [constants.ZSTD_c_checksumFlag]: 1,
      ...(windowLog === undefined
        ? {}
        : { [constants.ZSTD_c_windowLog]: windowLog, [constants.ZSTD_c_contentSizeFlag]: 0 }),
    },
  })
}

/** Large ones, whose decoding goes on side by side, small ones, and some that give far more than they take. */
const contents = [
  incompressible.subarray(0, 5 * mebibyte),
  Buffer.from('small'),
  incompressible.subarray(5 * mebibyte, 7 * mebibyte),
  Buffer.alloc(40 * mebibyte),
  incompressible.subarray(7 * mebibyte, 19 * mebibyte),
  Buffer.alloc(0),
  incompressible.subarray(19 * mebibyte),
]
const frames = contents.map((bytes) => frame(bytes))
const joined = Buffer.concat(frames)
const whole = Buffer.concat(contents)

test('frames come out in their order, for any chunking', async () => {
  await fc.assert(
    fc.asyncProperty(chunkSizes(3 * mebibyte), async (sizes) => {
      const large = sizes.map((size) => size + 1000)
      expect((await collect(decodeZstd(chunked(joined, large)))).equals(whole)).toBe(true)
    }),
    { numRuns: 5 },
  )
})

test('frames with a large window come out in their order too', async () => {
  const mixed = contents.map((bytes, index) => frame(bytes, index % 2 === 0 ? 25 : undefined))
  const decoded = await collect(decodeZstd(chunked(Buffer.concat(mixed), [100_000])))
  expect(decoded.equals(whole)).toBe(true)
})

test('a damaged frame is a refusal, and what was before it has come', async () => {
  const damaged = Buffer.from(joined)
  const at = joined.length - 1000
  damaged[at] = (damaged[at] ?? 0) ^ 1
  let given = 0
  async function read(): Promise<void> {
    for await (const chunk of decodeZstd(chunked(damaged, [100_000]))) given += chunk.length
  }
  expect(await refusalIn(read())).toBe('COMPRESSION_INVALID')
  expect(given).toBeGreaterThan(45 * mebibyte)
})

test('what breaks off or fails while several are decoded is told as it is', async () => {
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield* chunked(joined.subarray(0, 9 * mebibyte), [200_000])
    throw new CodedError('SOURCE_TRUNCATED', 'cut')
  }
  expect(await refusalIn(collect(decodeZstd(failing())))).toBe('SOURCE_TRUNCATED')
  const cut = chunked(joined.subarray(0, 9 * mebibyte), [200_000])
  expect(await refusalIn(collect(decodeZstd(cut)))).toBe('COMPRESSION_INVALID')
})

test('reads no further ahead than it may, and closes its source when the reader stops', async () => {
  const state = { read: 0, closed: false }
  async function* source(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        yield* chunked(joined, [mebibyte])
        state.read += joined.length
      }
    } finally {
      state.closed = true
    }
  }
  const body = decodeZstd(source())
  await body.next()
  // Long enough for it to read all that it wants.
  for (let before = -1; before !== state.read;) {
    before = state.read
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  expect(state.read).toBeLessThan(5 * joined.length)
  await body.return()
  await vi.waitFor(() => expect(state.closed).toBe(true))
})
