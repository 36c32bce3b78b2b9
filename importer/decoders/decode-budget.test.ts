import { execFileSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, test, vi } from 'vitest'
import type { Bytes } from '../../core/streams.ts'
import { chunked, collect, noise } from '../../test/fixtures/chunks.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { budgetFor, withinBudget, type DecodeBudget } from './decode-budget.ts'
import { decodeNatively } from './native-stage.ts'
import { decodeGzip } from './zlib-stage.ts'
import { decodeZstd } from './zstd-stage.ts'

const mebibyte = 1024 * 1024
const generous = budgetFor(2 ** 40)

const piped =
  (command: string, ...args: string[]) =>
  (bytes: Uint8Array): Buffer =>
    execFileSync(command, args, { input: bytes })

const xzOptions = { threads: 2, memoryLimit: 64 * mebibyte, threadedMemoryLimit: 64 * mebibyte }
const formats = [
  { compression: 'gzip', pack: (bytes: Uint8Array) => gzipSync(bytes), decode: decodeGzip },
  { compression: 'zstd', pack: (bytes: Uint8Array) => zstdCompressSync(bytes), decode: decodeZstd },
  {
    compression: 'xz',
    pack: piped('xz', '-0', '-c'),
    decode: (body: Bytes) => decodeNatively(body, { kind: 'xz', ...xzOptions }),
  },
  {
    compression: 'bzip2',
    pack: piped('bzip2', '-1', '-c'),
    decode: (body: Bytes) => decodeNatively(body, { kind: 'bzip2' }),
  },
  {
    compression: 'lz4',
    pack: piped('lz4', '-1', '-c', '-q'),
    decode: (body: Bytes) => decodeNatively(body, { kind: 'lz4' }),
  },
] as const
type Format = (typeof formats)[number]

function unpack({ compression, decode }: Format, body: Bytes, change: Partial<DecodeBudget>) {
  return collect(withinBudget(body, compression, decode, { ...generous, ...change }))
}

/** `part` for ever, in chunks of a source's size; tells how it was left. */
function endless(part: Uint8Array) {
  const state = { bytes: 0, closed: false }
  const chunk = Buffer.concat(Array.from({ length: Math.ceil(20_000 / part.length) }, () => part))
  async function* body(): AsyncGenerator<Uint8Array, void> {
    try {
      for (;;) {
        yield Uint8Array.from(chunk)
        state.bytes += chunk.length
        await sleep(0)
      }
    } finally {
      state.closed = true
    }
  }
  return { state, body: body() }
}

describe.each(formats)('$compression', (format) => {
  const { compression, pack } = format

  test('what unpacks to more than is allowed is refused, with the limit', async () => {
    const size = 3 * mebibyte
    const packed = pack(Buffer.alloc(size))
    const within = await unpack(format, chunked(packed, [5000]), { mostBytes: size })
    expect(within.equals(Buffer.alloc(size))).toBe(true)
    const beyond = unpack(format, chunked(packed, [5000]), { mostBytes: size - 1 })
    await expect(beyond).rejects.toMatchObject({
      code: 'SIZE_EXCEEDED',
      message: `cannot decompress ${compression}: it unpacks to more than the allowed ${size - 1} bytes (maxVirtualSize)`,
    })
  })

  test('zeros without end are refused', async () => {
    const { body, state } = endless(pack(Buffer.alloc(mebibyte)))
    const running = unpack(format, body, { mostBytes: 20 * mebibyte })
    expect(await refusalIn(running)).toBe('SIZE_EXCEEDED')
    await vi.waitFor(() => expect(state.closed).toBe(true))
  })

  test('parts without end that hold nothing are refused', async () => {
    const mostIdleBytes = 300_000
    const { body, state } = endless(pack(Buffer.alloc(0)))
    await expect(unpack(format, body, { mostIdleBytes })).rejects.toMatchObject({
      code: 'COMPRESSION_INVALID',
      message: expect.stringContaining(' of it hold 0 bytes'),
    })
    expect(state.bytes).toBeLessThan(2 * mostIdleBytes)
    await vi.waitFor(() => expect(state.closed).toBe(true))
  })

  test('a decoder that takes longer than it may is stopped', async () => {
    const { body } = endless(pack(noise(100_000)))
    const running = unpack(format, body, { graceMs: 0, leastBytesPerSecond: 2 ** 50 })
    await expect(running).rejects.toMatchObject({
      code: 'SIZE_EXCEEDED',
      message: expect.stringContaining('longer than any disk takes'),
    })
  })
})

test("the time that a source or a reader takes is not the decoder's", async () => {
  const packed = gzipSync(noise(100_000))
  const pause = 200
  async function* slow(): AsyncGenerator<Uint8Array, void> {
    for (const chunk of [packed.subarray(0, 20_000), packed.subarray(20_000)]) {
      yield chunk
      await sleep(8 * pause)
    }
  }
  const budget = { ...generous, graceMs: 4 * pause, leastBytesPerSecond: 2 ** 50 }
  const read: Uint8Array[] = []
  for await (const chunk of withinBudget(slow(), 'gzip', decodeGzip, budget)) {
    read.push(Uint8Array.from(chunk))
    await sleep(8 * pause)
  }
  expect(Buffer.concat(read).equals(gunzipSync(packed))).toBe(true)
})
