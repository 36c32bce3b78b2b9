import type { Digest } from '../core/digest.ts'
import { clusterBytes, clustersPerBatch } from './cluster-batch.ts'
import { chunkRecord, contentDigestOf } from './content-digest.ts'
import { createDataPacker } from './data-packer.ts'
import { createQcow2Tables } from './qcow2-tables.ts'
import { createSpill } from './spill.ts'

/** Each of the L2 tables, the refcounts and the chunk records; together about 32 MiB. */
const defaultSpillBytes = 10 * 1024 * 1024

export interface Qcow2WriterOptions {
  /** Takes the data region in file order; the chunk is reused once it resolves. */
  write(chunk: Uint8Array): Promise<void>
  /** Where tables go that outgrow `spillBytes` of memory; nothing is left there. */
  readonly spillFolder: string
  readonly spillBytes?: number
}

/** A qcow2 whose data region is written and whose metadata is known; dispose gives back memory. */
export interface EncodedQcow2 extends AsyncDisposable {
  readonly virtualSize: number
  /** Exactly the bytes of the disk that came. */
  readonly sourceSize: number
  readonly contentDigest: Digest
  readonly metadataSize: number
  readonly dataSize: number
  /**
   * Header, L1, refcount table, refcount blocks, L2 tables: exactly `metadataSize` bytes, to be
   * placed right before the data.
   */
  metadata(): AsyncIterable<Uint8Array>
}

/** Batches in guest order in, the data region of an image of ours out. */
export interface Qcow2Writer extends AsyncDisposable {
  /**
   * The batch of that index: its clusters as stored, back to back, their `sizes` (0: all zero) and
   * the sha256 of all its guest bytes.
   */
  add(
    index: number,
    batch: {
      readonly bytes: Uint8Array
      readonly sizes: Uint32Array
      readonly digest: Uint8Array
    },
  ): Promise<void>
  /** The caller disposes what it answers instead of this. */
  finish(size: { readonly virtualSize: number; readonly sourceSize: number }): Promise<EncodedQcow2>
}

export function createQcow2Writer(options: Qcow2WriterOptions): Qcow2Writer {
  const spill = {
    folder: options.spillFolder,
    memoryBytes: options.spillBytes ?? defaultSpillBytes,
  }
  const owned = new AsyncDisposableStack()
  const tables = owned.use(createQcow2Tables(spill))
  const chunkRecords = owned.use(createSpill(spill))
  const packer = createDataPacker(options.write)
  return {
    async add(index, { bytes, sizes, digest }) {
      const firstCluster = index * clustersPerBatch
      await tables.begin(firstCluster)
      let start = 0
      for (const [cluster, size] of sizes.entries()) {
        if (size === 0) continue
        const stored = bytes.subarray(start, start + size)
        const guestCluster = firstCluster + cluster
        if (size === clusterBytes) tables.addPlain(guestCluster, packer.addPlain(stored))
        else tables.addFrame(guestCluster, packer.addFrame(stored), size)
        start += size
      }
      await chunkRecords.append(chunkRecord(index, digest))
      await packer.flush()
    },
    async finish({ virtualSize, sourceSize }) {
      const dataSize = await packer.finish()
      const layout = await tables.finish(virtualSize)
      const contentDigest = await contentDigestOf(virtualSize, chunkRecords.read())
      return {
        virtualSize,
        sourceSize,
        contentDigest,
        metadataSize: layout.clusters * clusterBytes,
        dataSize,
        metadata: () => tables.metadata(virtualSize, layout),
        [Symbol.asyncDispose]: () => owned.disposeAsync(),
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
