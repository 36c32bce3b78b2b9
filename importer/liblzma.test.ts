import { execFileSync } from 'node:child_process'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { noise } from '../test/fixtures/chunks.ts'
import { refusalOf } from '../test/fixtures/refusal.ts'
import { createXzDecoder } from './liblzma.ts'

const limits = { threads: 2, memoryLimit: 64 * 1024 * 1024, threadedMemoryLimit: 64 * 1024 * 1024 }
const xz = (bytes: Uint8Array, ...options: string[]): Buffer =>
  execFileSync('xz', ['-0', '-c', ...options], { input: bytes })

const plain = Buffer.concat([Buffer.alloc(3000, 'text that shrinks '), noise(1000)])
const packed = xz(plain)
const blocks = xz(plain, '-T2', '--block-size=1024')
const joined = Buffer.concat([packed, xz(Buffer.alloc(0)), Buffer.alloc(8), blocks])

/** Decodes all of `bytes` in inputs and outputs of those sizes; throws where it stands still. */
function decode(
  bytes: Uint8Array,
  inputSize: number,
  outputSize: number,
  options = limits,
): Buffer {
  using decoder = createXzDecoder(options)
  const decoded: Buffer[] = []
  let at = 0
  for (let idle = 0; idle < 3;) {
    const input = bytes.subarray(at, at + inputSize)
    const output = new Uint8Array(outputSize)
    const { consumed, produced, ended } = decoder.decode(
      input,
      output,
      at + input.length === bytes.length,
    )
    at += consumed
    decoded.push(Buffer.from(output.subarray(0, produced)))
    if (ended) return Buffer.concat(decoded)
    idle = consumed + produced === 0 ? idle + 1 : 0
  }
  throw new Error('the decoder stands still')
}

const sizes = [fc.integer({ min: 1, max: 900 }), fc.integer({ min: 1, max: 900 })] as const

test('decodes streams, blocks and padding, for any sizes of input and output', () => {
  const whole = Buffer.concat([plain, plain])
  fc.assert(
    fc.property(...sizes, (inputSize, outputSize) => {
      expect(decode(joined, inputSize, outputSize).equals(whole)).toBe(true)
    }),
  )
})

test('refuses what was cut anywhere but between two streams', () => {
  const padded = joined.length - blocks.length
  fc.assert(
    fc.property(fc.integer({ min: 1, max: joined.length - 1 }), ...sizes, (end, input, output) => {
      const cut = joined.subarray(0, end)
      // Padding comes in fours, streams too.
      if (end === packed.length || (end >= padded - 8 && end <= padded && end % 4 === 0)) return
      expect(() => decode(cut, input, output)).toThrow(
        expect.objectContaining({ code: 'COMPRESSION_INVALID' }),
      )
    }),
  )
})

test('gives the right bytes or a refusal where a byte was changed', () => {
  const at = fc.nat(joined.length - 1)
  const whole = Buffer.concat([plain, plain])
  fc.assert(
    fc.property(
      at,
      fc.integer({ min: 1, max: 255 }),
      ...sizes,
      (position, change, input, output) => {
        const damaged = Buffer.from(joined)
        damaged[position] = (joined[position] ?? 0) ^ change
        const decoded = { isRight: true }
        refusalOf(() => (decoded.isRight = decode(damaged, input, output).equals(whole)))
        expect(decoded.isRight).toBe(true)
      },
    ),
  )
})

test('refuses other bytes after the end', () => {
  for (const tail of [
    Buffer.from('x'),
    Buffer.alloc(3),
    noise(50),
    Buffer.from('fd377a58', 'hex'),
  ]) {
    const longer = Buffer.concat([packed, tail])
    for (const size of [1, packed.length, longer.length]) {
      expect(() => decode(longer, size, 1000)).toThrow(
        expect.objectContaining({ code: 'COMPRESSION_INVALID' }),
      )
    }
  }
})

test('refuses data that needs more memory than it may', () => {
  const greedy = xz(plain, '--lzma2=preset=0,dict=32MiB')
  const small = { ...limits, memoryLimit: 8 * 1024 * 1024, threadedMemoryLimit: 8 * 1024 * 1024 }
  expect(() => decode(greedy, 1000, 1000, small)).toThrow(
    expect.objectContaining({ code: 'SIZE_EXCEEDED' }),
  )
  expect(decode(greedy, 1000, 1000).equals(plain)).toBe(true)
})
