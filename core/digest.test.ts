import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { digestAlgorithm, digestHex, digestOf, parseDigest } from './digest.ts'
import { CodedError } from './errors.ts'

const sha256 = `sha256:${'a'.repeat(64)}`
const sha512 = `sha512:${'0'.repeat(128)}`

test('a digest is taken as it stands, and tells its parts', () => {
  expect(parseDigest(sha256)).toBe(sha256)
  expect(digestAlgorithm(parseDigest(sha256))).toBe('sha256')
  expect(digestAlgorithm(parseDigest(sha512))).toBe('sha512')
  expect(digestHex(parseDigest(sha512))).toBe('0'.repeat(128))
})

test.each([
  '',
  'sha256:',
  sha256.slice(0, -1),
  `${sha256}a`,
  `${sha256}\n`,
  ` ${sha256}`,
  sha256.toUpperCase(),
  `sha256:${'A'.repeat(64)}`,
  `sha256:${'g'.repeat(64)}`,
  `sha512:${'a'.repeat(64)}`,
  `sha256:${'a'.repeat(128)}`,
  `sha1:${'a'.repeat(40)}`,
  `sha256+b64:${'a'.repeat(64)}`,
  'a'.repeat(64),
])('%j is not a digest', (text) => {
  expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: 'DIGEST_INVALID' }))
})

test('a refused text is shown, but not all of a long one', () => {
  expect(() => parseDigest('sha256:zz')).toThrow('"sha256:zz"')
  const refused = fc.string({ minLength: 300, maxLength: 3000 })
  fc.assert(
    fc.property(refused, (text) => {
      expect(() => parseDigest(text)).toThrow(CodedError)
      expect(() => parseDigest('x'.repeat(text.length))).toThrow(/^.{0,400}$/)
    }),
  )
})

test('the digest of bytes is that of node:crypto', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
      expect(digestHex(digestOf(bytes))).toBe(createHash('sha256').update(bytes).digest('hex'))
      const long = digestOf(bytes, 'sha512')
      expect(digestHex(long)).toBe(createHash('sha512').update(bytes).digest('hex'))
    }),
  )
})
