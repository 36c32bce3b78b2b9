import { createHash, randomBytes } from 'node:crypto'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { createResumableHash, type HashAlgorithm, type ResumableHash } from './resumable-hash.ts'

const algorithms = fc.constantFrom<HashAlgorithm>('md5', 'sha1', 'sha256', 'sha512')

function open(algorithm: HashAlgorithm, from?: string): ResumableHash {
  const hash = createResumableHash(algorithm, from)
  if (!hash) throw new Error(`no ${algorithm} of this node passes its self-test`)
  return hash
}

test('any chunks, put away and taken up anywhere, give the digest of node:crypto', async () => {
  const steps = fc.array(
    fc.record({
      bytes: fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        fc.integer({ min: 60_000, max: 300_000 }).map((size) => randomBytes(size)),
      ),
      aside: fc.boolean(),
      putAway: fc.boolean(),
    }),
    { maxLength: 20 },
  )
  await fc.assert(
    fc.asyncProperty(algorithms, steps, async (algorithm, taken) => {
      const reference = createHash(algorithm)
      let hash = open(algorithm)
      for (const { bytes, aside, putAway } of taken) {
        reference.update(bytes)
        if (aside) await hash.updateAside(bytes)
        else hash.update(bytes)
        if (!putAway) continue
        const state = hash.save()
        // The one before goes on too and must not disturb the other.
        hash.update(Buffer.from('more'))
        hash = open(algorithm, state)
        expect(hash.save()).toBe(state)
      }
      expect(hash.digest()).toBe(reference.digest('hex'))
    }),
  )
})

test('the state is the one that the standard defines, whatever the machine', () => {
  // FIPS 180-4: the initial values, and the hash of one block is the state after it.
  const initial = '6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19'
  expect(open('sha256').save()).toBe(`sha256:0:${initial}:`)
  const abc = open('sha256')
  abc.update(Buffer.from('abc'))
  expect(abc.save()).toBe(`sha256:3:${initial}:YWJj`)
  const block = Buffer.alloc(64)
  block.write('abc\x80', 'latin1')
  block[63] = 24
  const padded = open('sha256')
  padded.update(block)
  const digest = createHash('sha256').update('abc').digest('hex')
  expect(padded.save()).toBe(`sha256:64:${digest}:`)
})

test('the length goes beyond what 32 bits of bits can count', () => {
  for (const [algorithm, size] of [
    ['md5', 16],
    ['sha1', 20],
    ['sha256', 32],
    ['sha512', 64],
  ] as const) {
    const words = 'a5'.repeat(size)
    for (const bytes of [2 ** 29 - 128, 2 ** 29, 2 ** 32, 3 * 2 ** 40]) {
      const state = `${algorithm}:${bytes}:${words}:`
      const hash = open(algorithm, state)
      expect(hash.save()).toBe(state)
      hash.update(Buffer.alloc(130))
      expect(hash.save()).toMatch(`${algorithm}:${bytes + 130}:`)
    }
  }
})

test('what is not a state of that algorithm is not taken up', () => {
  const state = open('sha256').save()
  const [, bytes, words = '', block] = state.split(':')
  const wrong = [
    '',
    state.replace('sha256', 'sha512'),
    `sha256:-1:${words}:${block}`,
    `sha256:1:${words}:`,
    `sha256:${bytes}:${words}:YWJj`,
    `sha256:${bytes}:${words.slice(1)}:`,
    `sha256:${bytes}:${words.replace('6', 'x')}:`,
    `sha256:${10 ** 17}:${words}:`,
  ]
  expect(wrong.map((text) => createResumableHash('sha256', text))).toEqual(
    wrong.map(() => undefined),
  )
  expect(createResumableHash('sha512', state)).toBeUndefined()
})
