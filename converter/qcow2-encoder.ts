import type { Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import type { Bytes } from '../core/streams.ts'
import { abortable } from './abortable.ts'
import { clusterBytes, clustersPerBatch, zstdLevel, type EncodedBatch } from './cluster-batch.ts'
import type { ClusterPool } from './cluster-pool.ts'
import { chunkRecord, contentDigestOf } from './content-digest.ts'
import { createDataPacker } from './data-packer.ts'
import { createBatchFiller, type GuestBatch } from './guest-batch.ts'
import { createQcow2Tables } from './qcow2-tables.ts'
import { createSpill } from './spill.ts'

export { metadataBound } from './qcow2-metadata.ts'

/**
 * Names all that decides the bytes of an encoded image: the layout rules, the library and its
 * level. Equal content under an equal version gives equal files. Written into an annotation.
 */
export const encoderVersion = `dvcr-qcow2/1 zstd-${process.versions.zstd}/${zstdLevel}`

const sectorBytes = 512
/** Each of the L2 tables, the refcounts and the chunk records; together about 32 MiB. */
const defaultSpillBytes = 10 * 1024 * 1024

export interface EncodeOptions {
  /** Takes the data region in file order; the chunk is reused once it resolves. */
  write(chunk: Uint8Array): Promise<void>
  /** Bytes; more of them fail with SIZE_EXCEEDED. */
  readonly maxVirtualSize: number
  /** Where tables go that outgrow `spillBytes` of memory; nothing is left there. */
  readonly spillFolder: string
  readonly spillBytes?: number
  readonly signal: AbortSignal
  readonly pool: ClusterPool
}

/** A qcow2 whose data region is written and whose metadata is known; dispose gives back memory. */
export interface EncodedQcow2 extends AsyncDisposable {
  /** `sourceSize` rounded up to 512. */
  readonly virtualSize: number
  /** Exactly the bytes that came. */
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

/**
 * Encodes raw bytes as qcow2: version 3, 64 KiB clusters, one zstd frame per cluster that shrinks
 * by a sixteenth, other clusters plain, all-zero clusters and their tables absent. The bytes are a
 * function of the content alone, for one `encoderVersion`; see `createDataPacker` for the layout of
 * the data. Memory does not grow with the disk. Ends at once with the signal's reason; rejects with
 * SIZE_EXCEEDED and with what `raw` and `write` reject with.
 */
export async function encodeQcow2(raw: Bytes, options: EncodeOptions): Promise<EncodedQcow2> {
  const { maxVirtualSize, pool, signal } = options
  const spill = {
    folder: options.spillFolder,
    memoryBytes: options.spillBytes ?? defaultSpillBytes,
  }
  await using cleanup = new AsyncDisposableStack()
  const tables = cleanup.use(createQcow2Tables(spill))
  const chunkRecords = cleanup.use(createSpill(spill))
  const packer = createDataPacker(options.write)
  const lease = pool.createLease()
  const stop = new AbortController()
  const stopped = AbortSignal.any([signal, stop.signal])

  async function store({ index, buffer }: GuestBatch, encoded: EncodedBatch): Promise<void> {
    const firstCluster = index * clustersPerBatch
    await tables.begin(firstCluster)
    let start = 0
    for (const [cluster, size] of encoded.sizes.entries()) {
      if (size === 0) continue
      const bytes = new Uint8Array(buffer, start, size)
      const guestCluster = firstCluster + cluster
      if (size === clusterBytes) tables.addPlain(guestCluster, packer.addPlain(bytes))
      else tables.addFrame(guestCluster, packer.addFrame(bytes), size)
      start += size
    }
    await chunkRecords.append(chunkRecord(index, encoded.digest))
    await packer.flush()
  }

  /** Stores one batch after the others; failures stop the encode, and never reject. */
  async function storeNext(
    before: Promise<void>,
    batch: GuestBatch,
    encoding: Promise<EncodedBatch>,
  ): Promise<void> {
    const [outcome] = await Promise.allSettled([encoding, before])
    try {
      if (outcome.status === 'rejected') throw outcome.reason
      if (!stopped.aborted) await store(batch, outcome.value)
    } catch (error) {
      stop.abort(error)
    } finally {
      lease.release(batch.buffer)
    }
  }

  let stored = Promise.resolve()
  const filler = createBatchFiller(lease, (batch) => {
    stored = storeNext(stored, batch, pool.encode(batch))
  })

  try {
    for await (const chunk of abortable(raw, stopped)) {
      if (filler.filledBytes + chunk.length > maxVirtualSize) throw tooLarge(maxVirtualSize)
      await filler.add(chunk, stopped)
    }
    filler.finish()
  } catch (error) {
    stop.abort(error)
  } finally {
    filler.release()
    await stored
  }
  stopped.throwIfAborted()

  const sourceSize = filler.filledBytes
  const virtualSize = Math.ceil(sourceSize / sectorBytes) * sectorBytes
  const dataSize = await packer.finish()
  const layout = await tables.finish(virtualSize)
  const contentDigest = await contentDigestOf(virtualSize, chunkRecords.read())
  const kept = cleanup.move()
  return {
    virtualSize,
    sourceSize,
    contentDigest,
    metadataSize: layout.clusters * clusterBytes,
    dataSize,
    metadata: () => tables.metadata(virtualSize, layout),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

function tooLarge(limit: number): CodedError {
  return new CodedError('SIZE_EXCEEDED', `the disk is larger than the limit of ${limit} bytes`, {
    detail: { limit },
  })
}
