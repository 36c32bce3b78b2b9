import { createHash } from 'node:crypto'
import { parseDigest, type Digest } from '../core/digest.ts'
import type { Bytes } from '../core/streams.ts'

/** What the digest knows of one 4 MiB chunk that is not all zero; records are in disk order. */
export function chunkRecord(index: number, sha256: Uint8Array): Uint8Array {
  const record = Buffer.alloc(8 + sha256.length)
  record.writeBigUInt64BE(BigInt(index))
  record.set(sha256, 8)
  return record
}

/**
 * The identity of a disk's content, whatever format holds it: sha256 over `dvcr-content-v1\n`, the
 * virtual size and for each 4 MiB of guest data that is not all zero its index and sha256; numbers
 * as 64-bit big-endian. The last chunk ends at the virtual size. `records`: the chunk records.
 */
export async function contentDigestOf(virtualSize: number, records: Bytes): Promise<Digest> {
  const hash = createHash('sha256').update('dvcr-content-v1\n')
  const size = Buffer.alloc(8)
  size.writeBigUInt64BE(BigInt(virtualSize))
  hash.update(size)
  for await (const bytes of records) hash.update(bytes)
  return parseDigest(`sha256:${hash.digest('hex')}`)
}
