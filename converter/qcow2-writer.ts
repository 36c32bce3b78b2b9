import type { Digest } from '../core/digest.ts'
import { clusterBytes, clustersPerBatch } from './cluster-batch.ts'
import { chunkRecord, contentDigestOf } from './content-digest.ts'
import { createDataPacker } from './data-packer.ts'
import {
  batchRecord,
  readBatchRecords,
  type BatchOutline,
  type EncoderState,
} from './encoder-state.ts'
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
  /** What was added since the last call, as an encoder that goes on needs it. */
  outline(): Pick<EncoderState, 'records' | 'staged'>
  /**
   * Takes what another writer was given for added and written; before the first `add`. False where
   * it is no state of such a writer: this one is then of no use.
   */
  resume(state: Pick<EncoderState, 'records' | 'staged'>): Promise<boolean>
  /** The caller disposes what it answers instead of this. */
  finish(size: { readonly virtualSize: number; readonly sourceSize: number }): Promise<EncodedQcow2>
}

/** `keepsOutline`: `outline` will be asked. */
export function createQcow2Writer(
  options: Qcow2WriterOptions,
  { keepsOutline = false } = {},
): Qcow2Writer {
  const spill = {
    folder: options.spillFolder,
    memoryBytes: options.spillBytes ?? defaultSpillBytes,
  }
  const owned = new AsyncDisposableStack()
  const tables = owned.use(createQcow2Tables(spill))
  const chunkRecords = owned.use(createSpill(spill))
  const packer = createDataPacker(options.write)
  let outlines: Uint8Array[] = []

  async function layOut(
    { index, sizes, digest }: BatchOutline,
    place: (start: number, size: number) => number,
  ): Promise<void> {
    const firstCluster = index * clustersPerBatch
    await tables.begin(firstCluster)
    let start = 0
    for (const [cluster, size] of sizes.entries()) {
      if (size === 0) continue
      const guestCluster = firstCluster + cluster
      const offset = place(start, size)
      if (size === clusterBytes) tables.addPlain(guestCluster, offset)
      else tables.addFrame(guestCluster, offset, size)
      start += size
    }
    await chunkRecords.append(chunkRecord(index, digest))
  }

  return {
    async add(index, { bytes, sizes, digest }) {
      const outline = { index, sizes, digest }
      await layOut(outline, (start, size) => packer.add(bytes.subarray(start, start + size)))
      if (keepsOutline) outlines.push(batchRecord(outline))
      await packer.flush()
    },
    outline() {
      const records = Buffer.concat(outlines)
      outlines = []
      return { records, staged: packer.staged() }
    },
    async resume({ records, staged }) {
      for (const outline of readBatchRecords(records)) {
        if (!outline) return false
        await layOut(outline, (_, size) => packer.skip(size))
        packer.skipFlush()
      }
      return packer.restore(staged)
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
