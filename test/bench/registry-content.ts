import { createHash, hash, type Hash } from 'node:crypto'
import { parseDigest, type Digest } from '../../core/digest.ts'
import { noise } from '../fixtures/chunks.ts'

/** A blob that takes the client next to nothing to make, send and check. */
export interface Content {
  readonly size: number
  readonly digest: Digest
  /** The bytes [from, to) in pieces; they are shared, nobody may write to them. */
  slices(from: number, to: number): Generator<Uint8Array>
}

const blockBytes = 32 * 2 ** 20
const sliceBytes = 2 ** 20
const tailBytes = 32

let block: Buffer | undefined
const hashedBodies = new Map<number, Hash>()

/**
 * The same block of noise over and over, then 32 bytes that only `seed` has: blobs differ, and of
 * all that have one size the body is hashed once.
 */
export function contentOf(size: number, seed: string): Content {
  const noisy = (block ??= noise(blockBytes))
  const tail = hash('sha256', seed, 'buffer').subarray(0, Math.min(tailBytes, size))
  const body = size - tail.length

  function* slices(from: number, to: number): Generator<Uint8Array> {
    for (let at = from; at < Math.min(to, body);) {
      const start = at % blockBytes
      const end = Math.min(start + sliceBytes, blockBytes, start + Math.min(to, body) - at)
      yield noisy.subarray(start, end)
      at += end - start
    }
    if (to > body) yield tail.subarray(Math.max(0, from - body), to - body)
  }

  let hashed = hashedBodies.get(body)
  if (!hashed) {
    hashed = createHash('sha256')
    for (const slice of slices(0, body)) hashed.update(slice)
    hashedBodies.set(body, hashed)
  }
  return { size, digest: parseDigest(`sha256:${hashed.copy().update(tail).digest('hex')}`), slices }
}
