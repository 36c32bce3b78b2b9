import { execFileSync } from 'node:child_process'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Compression } from '../../core/disk-format.ts'
import { chunked, chunkSizes, collect, noise } from '../../test/fixtures/chunks.ts'
import { boundaryEveryBytes, type Boundary } from './boundary.ts'
import { decompress, decompressFrom } from './decompress.ts'

const maxVirtualSize = 2 ** 40

const piped =
  (command: string, ...args: string[]) =>
  (input: Uint8Array): Buffer =>
    execFileSync(command, [...args, '-c'], { input, maxBuffer: 2 ** 26 })

/** What is larger than the least distance of two boundaries, what is smaller, and nothing. */
const parts = [
  noise(1_200_000),
  Buffer.alloc(5_000_000, 'text that shrinks '),
  noise(700_000),
  Buffer.alloc(0),
  noise(700_000),
  noise(1_200_000),
  Buffer.from('the end'),
]
const whole = Buffer.concat(parts)

/** All that `decompress` tells of `bytes` in such chunks, and what it gives. */
async function boundariesIn(bytes: Uint8Array, sizes: readonly number[]) {
  const boundaries: Boundary[] = []
  const onBoundary = (boundary: Boundary) => void boundaries.push(boundary)
  const { body } = await decompress(chunked(bytes, sizes), { maxVirtualSize, onBoundary })
  return { decoded: await collect(body), boundaries }
}

const engines: { compression: Compression; pack: (bytes: Uint8Array) => Buffer; gap: number }[] = [
  { compression: 'gzip', pack: (bytes) => gzipSync(bytes, { level: 1 }), gap: 0 },
  { compression: 'zstd', pack: (bytes) => zstdCompressSync(bytes), gap: 0 },
  { compression: 'xz', pack: piped('xz', '-0'), gap: 8 },
  { compression: 'bzip2', pack: piped('bzip2', '-1'), gap: 0 },
  { compression: 'lz4', pack: piped('lz4', '-1', '-q'), gap: 0 },
]

describe.each(engines)('of $compression', ({ compression, pack, gap }) => {
  const streams = parts.map((part) => Buffer.concat([pack(part), Buffer.alloc(gap)]))
  const packed = Buffer.concat(streams)
  const begins = streams.map((_, count) => Buffer.concat(streams.slice(0, count)).length)

  test('decoding from any boundary gives the rest, for any chunking', async () => {
    await fc.assert(
      fc.asyncProperty(chunkSizes(300_000), async (sizes) => {
        const { decoded, boundaries } = await boundariesIn(packed, sizes)
        expect(decoded.equals(whole)).toBe(true)
        expect(boundaries.length).toBeGreaterThanOrEqual(2)
        let before = 0
        for (const boundary of boundaries) {
          expect(begins).toContain(boundary.compressed)
          expect(boundary.compressed - before).toBeGreaterThanOrEqual(boundaryEveryBytes)
          before = boundary.compressed
          const later: Boundary[] = []
          const body = decompressFrom(
            chunked(packed.subarray(boundary.compressed), sizes),
            { ...boundary, compression },
            { maxVirtualSize, onBoundary: (one) => void later.push(one) },
          )
          expect((await collect(body)).equals(whole.subarray(boundary.decoded))).toBe(true)
          const farther = boundaries.filter((one) => one.compressed > boundary.compressed)
          expect(later).toEqual(farther)
        }
      }),
      { numRuns: 4 },
    )
  })

  test('none is told behind the last stream', async () => {
    const padded = Buffer.concat([packed, Buffer.alloc(2_000_000)])
    const { boundaries } = await boundariesIn(padded, [100_000])
    expect(boundaries.at(-1)?.compressed).toBeLessThan(packed.length)
  })

  test('what is cut or followed by other bytes is refused behind a boundary too', async () => {
    const { boundaries } = await boundariesIn(packed, [100_000])
    const last = boundaries.at(-1) ?? { compressed: 0, decoded: 0 }
    const rest = packed.subarray(last.compressed)
    for (const bytes of [rest.subarray(0, -2 - gap), Buffer.concat([rest, Buffer.from('x')])]) {
      const body = decompressFrom(
        chunked(bytes, [100_000]),
        { ...last, compression },
        { maxVirtualSize },
      )
      await expect(collect(body)).rejects.toMatchObject({ code: 'COMPRESSION_INVALID' })
    }
  })
})

describe('of xz blocks', () => {
  const pack = piped('xz', '-0', '-T2', '--block-size=500000')
  const one = pack(whole)
  const packed = Buffer.concat([one, Buffer.alloc(8), pack(noise(3_000_000))])
  const all = Buffer.concat([whole, noise(3_000_000)])
  const from = (boundary: Boundary, bytes: Uint8Array, later: Boundary[] = []) =>
    collect(
      decompressFrom(
        chunked(bytes, [70_001]),
        { ...boundary, compression: 'xz' },
        { maxVirtualSize, onBoundary: (one) => void later.push(one) },
      ),
    )

  test('decoding from any boundary gives the rest', async () => {
    const { decoded, boundaries } = await boundariesIn(packed, [100_003])
    expect(decoded.equals(all)).toBe(true)
    expect(boundaries.filter(({ xz }) => xz).length).toBeGreaterThanOrEqual(2)
    expect(boundaries.at(-1)).toEqual({ compressed: one.length + 8, decoded: whole.length })
    // From the second stream on its blocks are told as well.
    const known = [...boundaries]
    for (const boundary of known) {
      const later: Boundary[] = []
      const rest = await from(boundary, packed.subarray(boundary.compressed), later)
      expect(rest.equals(all.subarray(boundary.decoded))).toBe(true)
      const told = known.map((one) => one.compressed)
      known.push(...later.filter((one) => !told.includes(one.compressed)))
    }
    expect(known.length).toBeGreaterThan(boundaries.length)
    const [first = { compressed: 0, decoded: 0 }] = boundaries
    const again: Boundary[] = []
    await from(first, packed.subarray(first.compressed), again)
    expect(again.at(-1)).toEqual(boundaries.at(-1))
  })

  test('what is cut or changed in the index and behind it is refused', async () => {
    const { boundaries } = await boundariesIn(one, [100_003])
    const [boundary = { compressed: 0, decoded: 0 }] = boundaries
    const rest = one.subarray(boundary.compressed)
    expect(await from(boundary, rest)).toHaveLength(whole.length - boundary.decoded)
    for (let back = 1; back < 100; back += 3) {
      const changed = Buffer.from(rest)
      changed[rest.length - back] = (changed[rest.length - back] ?? 0) ^ 1
      for (const bytes of [changed, rest.subarray(0, -back)]) {
        await expect(from(boundary, bytes)).rejects.toMatchObject({ code: 'COMPRESSION_INVALID' })
      }
    }
  })
})

test('gzip of many small members is decoded, and no more is told', async () => {
  const small = noise(60_000)
  const members = Array.from({ length: 120 }, () => gzipSync(small, { level: 1 }))
  const { decoded, boundaries } = await boundariesIn(Buffer.concat(members), [100_000])
  expect(decoded.equals(Buffer.concat(members.map(() => small)))).toBe(true)
  expect(boundaries.at(-1)?.decoded).toBeLessThan(101 * small.length)
  const cut = Buffer.concat([...members, gzipSync(small).subarray(0, -1)])
  await expect(boundariesIn(cut, [100_000])).rejects.toMatchObject({ code: 'COMPRESSION_INVALID' })
})

test('what was decoded before counts for the most that may come out', async () => {
  const place = { compression: 'zstd', compressed: 1000, decoded: 2 ** 30 } as const
  const body = decompressFrom(chunked(zstdCompressSync(whole), [100_000]), place, {
    maxVirtualSize: 2 ** 29,
  })
  await expect(collect(body)).rejects.toMatchObject({ code: 'SIZE_EXCEEDED' })
})
