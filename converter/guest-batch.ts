import { batchBytes, clusterBytes, clustersPerBatch } from './cluster-batch.ts'
import type { BufferLease } from './cluster-pool.ts'

/** One batch of guest bytes that holds something other than zeros. */
export interface GuestBatch {
  /** Counted from the start of the disk, in batches. */
  readonly index: number
  readonly buffer: SharedArrayBuffer
  /** By cluster: 1 where it holds data. */
  readonly isData: Uint8Array
  /** Bytes of the batch within the virtual size. */
  readonly size: number
}

/** Cuts a stream of guest bytes into batches; all-zero clusters are looked at but not copied. */
export interface BatchFiller {
  /** Guest bytes so far, those before the start included. */
  readonly filledBytes: number
  /** Adds the next bytes, handing every finished batch that is not all zero to `emit`. */
  add(chunk: Uint8Array, signal: AbortSignal): Promise<void>
  /** Adds so many zeros. */
  skip(bytes: number): void
  /** Ends the last batch at the next multiple of 512 bytes. */
  finish(): void
  /** Gives back the buffer of a batch that is not finished. */
  release(): void
}

const sectorBytes = 512
const zeros = Buffer.alloc(clusterBytes)

/**
 * `emit` owns the batch's buffer, which came from `lease`. The first byte is the one at `start`, a
 * multiple of a batch.
 */
export function createBatchFiller(
  lease: BufferLease,
  { start, emit }: { readonly start: number; readonly emit: (batch: GuestBatch) => void },
): BatchFiller {
  let filledBytes = start
  let buffer: SharedArrayBuffer | undefined
  let bytes: Uint8Array = new Uint8Array(0)
  let isData = new Uint8Array(clustersPerBatch)

  /** Adds a piece that lies within one cluster. */
  function addPiece(piece: Uint8Array, isZero: boolean): void {
    const at = filledBytes % batchBytes
    const cluster = Math.floor(at / clusterBytes)
    if (!isZero) {
      // The cluster was zero up to here, and nothing was copied.
      if (isData[cluster] !== 1) bytes.fill(0, cluster * clusterBytes, at)
      isData[cluster] = 1
      bytes.set(piece, at)
    } else if (isData[cluster] === 1) {
      bytes.fill(0, at, at + piece.length)
    }
    filledBytes += piece.length
    if (filledBytes % batchBytes === 0) endBatch(batchBytes)
  }

  function endBatch(size: number): void {
    if (!buffer) return
    const index = Math.ceil(filledBytes / batchBytes) - 1
    const batch = { index, buffer, isData, size }
    buffer = undefined
    isData = new Uint8Array(clustersPerBatch)
    emit(batch)
  }

  return {
    get filledBytes() {
      return filledBytes
    },
    async add(chunk, signal) {
      for (let at = 0; at < chunk.length;) {
        const piece = chunk.subarray(at, at + clusterBytes - (filledBytes % clusterBytes))
        const isZero = Buffer.compare(piece, zeros.subarray(0, piece.length)) === 0
        if (!isZero && !buffer) {
          buffer = await lease.acquire(signal)
          bytes = new Uint8Array(buffer)
        }
        addPiece(piece, isZero)
        at += piece.length
      }
    },
    skip(bytes) {
      for (let left = bytes; left > 0;) {
        // Without data in the batch there is nothing to be done for its zeros.
        const unit = buffer ? clusterBytes : batchBytes
        const size = Math.min(left, unit - (filledBytes % unit))
        if (buffer) addPiece(zeros.subarray(0, size), true)
        else filledBytes += size
        left -= size
      }
    },
    finish() {
      const inBatch = filledBytes % batchBytes
      if (inBatch === 0 || !buffer) return
      const inCluster = inBatch % clusterBytes
      if (inCluster !== 0) bytes.fill(0, inBatch, inBatch + clusterBytes - inCluster)
      endBatch(Math.ceil(inBatch / sectorBytes) * sectorBytes)
    },
    release() {
      if (buffer) lease.release(buffer)
      buffer = undefined
    },
  }
}
