import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createHashPool, type HashPool } from '../core/hash-pool.ts'
import { chunked, chunkSizes, collect, noise } from '../test/fixtures/chunks.ts'
import { checksumAlgorithms, verified, type Checksums } from './checksums.ts'

let hashPool: HashPool
beforeAll(() => {
  hashPool = createHashPool({ threads: 1 })
})
afterAll(() => hashPool[Symbol.asyncDispose]())

const hex = (algorithm: string, bytes: Uint8Array): string =>
  createHash(algorithm).update(bytes).digest('hex')
const through = (bytes: Uint8Array, sizes: readonly number[], expected: Checksums) =>
  collect(verified(chunked(bytes, sizes), expected, { hashPool, label: 'http://a/b' }))

test('all four checksums may be right at once, for any chunking', async () => {
  const set = fc.subarray([...checksumAlgorithms])
  const contents = fc.uint8Array({ maxLength: 2000 })
  await fc.assert(
    fc.asyncProperty(contents, chunkSizes(300), set, async (bytes, sizes, algorithms) => {
      const expected = Object.fromEntries(algorithms.map((name) => [name, hex(name, bytes)]))
      expect((await through(bytes, sizes, expected)).equals(bytes)).toBe(true)
    }),
  )
})

test.each(checksumAlgorithms)('a wrong %s is told with both values', async (algorithm) => {
  const bytes = noise(2_500_000)
  const wrong = hex(algorithm, Buffer.from('something else'))
  const right = Object.fromEntries(checksumAlgorithms.map((name) => [name, hex(name, bytes)]))
  await expect(through(bytes, [70_000], { ...right, [algorithm]: wrong })).rejects.toMatchObject({
    code: 'CHECKSUM_MISMATCH',
    message: expect.stringContaining(
      `http://a/b has ${algorithm} ${hex(algorithm, bytes)}, expected ${wrong}`,
    ),
    detail: { algorithm, actual: hex(algorithm, bytes), expected: wrong },
  })
})

test('the failure of the source is the one that is told', async () => {
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('a')
    throw new Error('cut')
  }
  const expected = { sha256: hex('sha256', Buffer.from('a')) }
  const body = verified(broken(), expected, { hashPool, label: 'x' })
  await expect(collect(body)).rejects.toThrow('cut')
})

test('the source is closed when reading stops early', async () => {
  let closed = 0
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield noise(2_000_000)
    } finally {
      closed++
    }
  }
  for (const expected of [{}, { md5: '0'.repeat(32) }]) {
    for await (const chunk of verified(endless(), expected, { hashPool, label: 'x' })) {
      expect(chunk.length).toBeGreaterThan(0)
      break
    }
  }
  expect(closed).toBe(2)
})
