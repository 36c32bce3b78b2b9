import { clusterBytes, clustersPerBatch, type EncodedBatch } from './cluster-batch.ts'

/**
 * What an encoder needs to go on, in any process with an equal `encoderVersion`, behind `position`:
 * all guest bytes before it are encoded.
 */
export interface EncoderState {
  /** Guest bytes; a multiple of a batch. */
  readonly position: number
  /** The records of all batches that hold data. */
  readonly records: Uint8Array
  /** What is laid out behind the last byte that was written. */
  readonly staged: Uint8Array
}

/** What the layout and the content digest know of a batch; not its bytes. */
export type BatchOutline = EncodedBatch & { readonly index: number }

const digestBytes = 32
const recordBytes = 8 + 4 * clustersPerBatch + digestBytes

/** Index, stored sizes and sha256 of a batch; integers are big-endian. */
export function batchRecord({ index, sizes, digest }: BatchOutline): Uint8Array {
  const record = Buffer.alloc(recordBytes)
  record.writeBigUInt64BE(BigInt(index))
  for (const [at, size] of sizes.entries()) record.writeUInt32BE(size, 8 + 4 * at)
  record.set(digest, recordBytes - digestBytes)
  return record
}

/** The batches of `records`, rising; ends early with `undefined` where they are not such records. */
export function* readBatchRecords(records: Uint8Array): Generator<BatchOutline | undefined, void> {
  let before = -1
  for (let at = 0; at < records.length; at += recordBytes) {
    const record = Buffer.from(records.buffer, records.byteOffset + at).subarray(0, recordBytes)
    if (at + recordBytes > records.length) return yield undefined
    const index = Number(record.readBigUInt64BE())
    const sizes = Uint32Array.from({ length: clustersPerBatch }, (_, cluster) =>
      record.readUInt32BE(8 + 4 * cluster),
    )
    if (index <= before || sizes.some((size) => size > clusterBytes)) return yield undefined
    yield { index, sizes, digest: Uint8Array.from(record.subarray(recordBytes - digestBytes)) }
    before = index
  }
}
