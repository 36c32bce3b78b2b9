import { execFileSync } from 'node:child_process'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { noise } from '../../test/fixtures/chunks.ts'
import { refusalOf } from '../../test/fixtures/refusal.ts'
import { loadLibrary } from './native-library.ts'
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
    for (const tail of [Buffer.from('x'), Buffer.from('\0\0\0x'), noise(50), beginning]) {
      const longer = Buffer.concat([packed, tail])
      for (const size of [1, packed.length, longer.length]) {
        expect(() => decode(decoding, longer, size, 1000)).toThrow(invalid)
      }
    }
  })

  test('takes zeros after the end', () => {
    for (const size of [4, 12, 5000]) {
      const padded = Buffer.concat([joined, Buffer.alloc(size)])
      for (const input of [1, 4096, padded.length]) {
        expect(decode(decoding, padded, input, 1000).equals(whole)).toBe(true)
      }
    }
  })
})

test('xz that needs more memory than it may is refused, with the limit', () => {
  const greedy = xz(plain, '--lzma2=preset=0,dict=32MiB')
  const limits = { memoryLimit: 8 * mebibyte, threadedMemoryLimit: 8 * mebibyte }
  expect(() => decode({ ...xzDecoding, ...limits }, greedy, 1000, 1000)).toThrow(
    expect.objectContaining({
      code: 'SIZE_EXCEEDED',
      message: expect.stringMatching(/dictionary .* more than the allowed 8388608 bytes/),
    }),
  )
  expect(decode(xzDecoding, greedy, 1000, 1000).equals(plain)).toBe(true)
})

test.each([
  ['a library', { file: 'libnothing.so.7', name: 'xz', packages: 'xz-utils (or liblzma5)' }],
  ['a library of that version', { file: 'liblzma.so.4', name: 'xz', packages: 'xz-utils' }],
])('where %s is missing the refusal says what to install', (_, wanted) => {
  expect(() => loadLibrary(wanted)).toThrow(
    expect.objectContaining({
      code: 'UNAVAILABLE',
      message: expect.stringContaining(
        `cannot decompress xz: the library ${wanted.file} is missing; install ${wanted.packages}`,
      ),
    }),
  )
})

describe('lz4 beyond plain frames', () => {
  const decoding = { kind: 'lz4' } as const
  const frame = piped('lz4', '-1', '-c', '-q')(plain)
  const legacy = piped('lz4', '-l', '-1', '-c', '-q')
  const skippable = Buffer.concat([Buffer.from('5a2a4d1803000000', 'hex'), Buffer.from('abc')])
  /** Three blocks, two of them full. */
  const large = Buffer.concat([Buffer.alloc(16 * mebibyte, 'text that shrinks '), noise(5000)])

  test('legacy frames are decoded, for any sizes of input and output', () => {
    const one = legacy(plain)
    const joined = Buffer.concat([one, frame, one, one, skippable, one, Buffer.alloc(9)])
    const whole = Buffer.concat([plain, plain, plain, plain, plain])
    fc.assert(
      fc.property(...sizes, (inputSize, outputSize) => {
        expect(decode(decoding, joined, inputSize, outputSize).equals(whole)).toBe(true)
      }),
      { numRuns: 30 },
    )
    expect(decode(decoding, legacy(large), 100_000, mebibyte).equals(large)).toBe(true)
  })

  test('legacy frames that are cut or changed end in an answer', () => {
    const one = legacy(plain)
    const at = fc.integer({ min: 5, max: one.length - 1 })
    fc.assert(
      fc.property(at, fc.integer({ min: 1, max: 255 }), ...sizes, (position, by, ...chunks) => {
        const cut = one.subarray(0, position)
        expect(() => decode(decoding, cut, ...chunks)).toThrow(invalid)
        const damaged = Buffer.from(one)
        damaged[position] = (one[position] ?? 0) ^ by
        // There are no checksums.
        expect([undefined, 'COMPRESSION_INVALID']).toContain(
          refusalOf(() => decode(decoding, damaged, ...chunks)),
        )
      }),
      { numRuns: 50 },
    )
  })

  test('other bytes after a legacy frame are refused', () => {
    for (const tail of ['garbage', 'x', '\0\0\0\0x', '\xff\xff\xff\xff']) {
      const longer = Buffer.concat([legacy(plain), Buffer.from(tail, 'latin1')])
      expect(() => decode(decoding, longer, 1000, 1000)).toThrow(invalid)
    }
  })

  test('skippable frames are skipped', () => {
    const joined = Buffer.concat([frame, skippable, skippable, frame, skippable])
    const whole = Buffer.concat([plain, plain])
    expect(decode(decoding, joined, 7, 1000).equals(whole)).toBe(true)
  })
})
