import { digestAlgorithm, parseDigest, type Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import type { StoredBytes } from '../blob-index.ts'
import type { DataStore } from '../data-store.ts'
import { whyNot } from './see.ts'

export interface VerifyParts {
  readonly data: Pick<DataStore, 'read'>
  readonly hashPool: HashPool
}

/**
 * What the bytes of a blob are. `damaged`: they are not the blob's; without `found` some of them
 * are not there at all. `unreadable`: the storage fails, which says nothing about the bytes.
 */
export type Verdict =
  | { readonly kind: 'whole' }
  | { readonly kind: 'damaged'; readonly found: Digest | undefined; readonly why: string }
  | { readonly kind: 'unreadable'; readonly why: string }

/** Reads all bytes of a blob and judges them; yields how many it has read since it last did. */
export async function* verifyBlob(
  { data, hashPool }: VerifyParts,
  digest: Digest,
  { offset, size, ...where }: StoredBytes,
  signal: AbortSignal,
): AsyncGenerator<number, Verdict> {
  const algorithm = digestAlgorithm(digest)
  using hash = hashPool.hashStream({ algorithm })
  const chunks = data.read(where, { start: offset, end: offset + size }, signal)
  try {
    for await (const chunk of chunks) {
      await hash.write(chunk)
      yield chunk.length
    }
  } catch (error) {
    signal.throwIfAborted()
    const why = whyNot(error)
    const isMissing = error instanceof CodedError && error.code === 'UNKNOWN'
    return isMissing ? { kind: 'damaged', found: undefined, why } : { kind: 'unreadable', why }
  }
  const found = parseDigest(`${algorithm}:${(await hash.finish()).hex}`)
  if (found === digest) return { kind: 'whole' }
  return { kind: 'damaged', found, why: `its bytes have the digest ${found}` }
}
