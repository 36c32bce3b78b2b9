import { execFileSync } from 'node:child_process'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { noise } from '../../test/fixtures/chunks.ts'
import { refusalOf } from '../../test/fixtures/refusal.ts'
import { createNativeDecoder, type NativeDecoding } from './native-decoder.ts'

const mebibyte = 1024 * 1024
const xzDecoding = {
  kind: 'xz',
  threads: 2,
  memoryLimit: 64 * mebibyte,
  threadedMemoryLimit: 64 * mebibyte,
} as const
const invalid: unknown = expect.objectContaining({ code: 'COMPRESSION_INVALID' })

const piped =
  (command: string, ...args: string[]) =>
  (bytes: Uint8Array, ...more: string[]): Buffer =>
    execFileSync(command, [...args, ...more], { input: bytes })
const xz = piped('xz', '-0', '-c')

const plain = Buffer.concat([Buffer.alloc(3000, 'text that shrinks '), noise(1000)])
const blocks = xz(plain, '-T2', '--block-size=1024')

interface Format {
  readonly decoding: NativeDecoding
  readonly pack: (bytes: Uint8Array) => Buffer
  /** What may be between streams, and what is in the second one. */
  readonly between?: Buffer
  readonly second?: Buffer
}
const formats: readonly Format[] = [
  { decoding: xzDecoding, pack: xz, between: Buffer.alloc(8), second: blocks },
  { decoding: { kind: 'bzip2' }, pack: piped('bzip2', '-1', '-c') },
  { decoding: { kind: 'lz4' }, pack: piped('lz4', '-1', '-B4', '-c', '-q') },
]

/** Decodes all of `bytes` in inputs and outputs of those sizes; throws where it stands still. */
function decode(
  decoding: NativeDecoding,
  bytes: Uint8Array,
  inputSize: number,
  outputSize: number,
): Buffer {
  using decoder = createNativeDecoder(decoding)
  const decoded: Buffer[] = []
  let at = 0
  for (let idle = 0; idle < 3;) {
    const input = bytes.subarray(at, at + inputSize)
    const output = new Uint8Array(outputSize)
    const last = at + input.length === bytes.length
    const { consumed, produced, ended } = decoder.decode(input, output, last)
    at += consumed
    decoded.push(Buffer.from(output.subarray(0, produced)))
    if (ended) return Buffer.concat(decoded)
    idle = consumed + produced === 0 ? idle + 1 : 0
  }
  throw new Error('the decoder stands still')
}

const sizes = [fc.integer({ min: 1, max: 900 }), fc.integer({ min: 1, max: 900 })] as const

describe.each(formats)('$decoding.kind', ({ decoding, pack, between, second }) => {
  const packed = pack(plain)
  const gap = between ?? Buffer.alloc(0)
  const behind = second ?? pack(plain)
  const joined = Buffer.concat([packed, pack(Buffer.alloc(0)), gap, behind])
  const whole = Buffer.concat([plain, plain])

  test('decodes streams and blocks, for any sizes of input and output', () => {
    fc.assert(
      fc.property(...sizes, (inputSize, outputSize) => {
        expect(decode(decoding, joined, inputSize, outputSize).equals(whole)).toBe(true)
      }),
    )
  })

  test('refuses what was cut anywhere but between two streams', () => {
    const padded = joined.length - behind.length
    const empty = padded - gap.length
    const end = fc.integer({ min: 1, max: joined.length - 1 })
    fc.assert(
      fc.property(end, ...sizes, (at, input, output) => {
        const cut = joined.subarray(0, at)
        // Padding comes in fours.
        if (at === packed.length || (at >= empty && at <= padded && (at - empty) % 4 === 0)) return
        expect(() => decode(decoding, cut, input, output)).toThrow(invalid)
      }),
    )
  })

  test('gives the right bytes or a refusal where a byte was changed', () => {
    const at = fc.nat(joined.length - 1)
    const change = fc.integer({ min: 1, max: 255 })
    fc.assert(
      fc.property(at, change, ...sizes, (position, by, input, output) => {
        const damaged = Buffer.from(joined)
        damaged[position] = (joined[position] ?? 0) ^ by
        const decoded = { isRight: true }
        refusalOf(() => (decoded.isRight = decode(decoding, damaged, input, output).equals(whole)))
        expect(decoded.isRight).toBe(true)
      }),
    )
  })

  test('refuses other bytes after the end', () => {
    const beginning = packed.subarray(0, 4)
    for (const tail of [Buffer.from('x'), Buffer.alloc(3), noise(50), beginning]) {
      const longer = Buffer.concat([packed, tail])
      for (const size of [1, packed.length, longer.length]) {
        expect(() => decode(decoding, longer, size, 1000)).toThrow(invalid)
      }
    }
  })
})

test('xz that needs more memory than it may is refused', () => {
  const greedy = xz(plain, '--lzma2=preset=0,dict=32MiB')
  const limits = { memoryLimit: 8 * mebibyte, threadedMemoryLimit: 8 * mebibyte }
  expect(() => decode({ ...xzDecoding, ...limits }, greedy, 1000, 1000)).toThrow(
    expect.objectContaining({ code: 'SIZE_EXCEEDED' }),
  )
  expect(decode(xzDecoding, greedy, 1000, 1000).equals(plain)).toBe(true)
})
