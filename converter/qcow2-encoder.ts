import { CodedError } from '../core/errors.ts'
import type { Bytes } from '../core/streams.ts'
import { abortable } from './abortable.ts'
import { batchBytes, zstdLevel, type EncodedBatch } from './cluster-batch.ts'
import type { ClusterPool } from './cluster-pool.ts'
import type { Extent } from './unpack.ts'
import type { EncoderState } from './encoder-state.ts'
import { createBatchFiller, type GuestBatch } from './guest-batch.ts'
import { createQcow2Writer, type EncodedQcow2, type Qcow2WriterOptions } from './qcow2-writer.ts'

export { metadataBound } from './qcow2-metadata.ts'

/**
 * Names all that decides the bytes of an encoded image: the layout rules, the library and its
 * level. Equal content under an equal version gives equal files. Written into an annotation.
 */
export const encoderVersion = `dvcr-qcow2/1 zstd-${process.versions.zstd}/${zstdLevel}`

const sectorBytes = 512
export interface EncodeOptions extends Qcow2WriterOptions {
  /** Bytes; more of them fail with SIZE_EXCEEDED. */
  readonly maxVirtualSize: number
  readonly signal: AbortSignal
  readonly pool: ClusterPool
  /** Where to go on; `raw` then begins at its position, and `write` behind what was written. */
  readonly from?: EncoderState | undefined
  readonly checkpoints?: EncoderCheckpoints | undefined
}

/** Who keeps the states of an encoder. */
export interface EncoderCheckpoints {
  /** True where a state is to be kept, `bytes` of the guest after the last one. */
  isDue(bytes: number): boolean
  /**
   * One call at a time; nothing is written meanwhile. What `state.staged` lies behind is what
   * `write` was given so far; its records are those since the last call.
   */
  save(state: EncoderState): Promise<void>
}

/**
 * Encodes raw bytes as qcow2: version 3, 64 KiB clusters, one zstd frame per cluster that shrinks
 * by a sixteenth, other clusters plain, all-zero clusters and their tables absent. The bytes are a
 * function of the content alone, for one `encoderVersion`; see `createDataPacker` for the layout of
 * the data. Memory does not grow with the disk. Ends at once with the signal's reason; rejects with
 * SIZE_EXCEEDED, with what `raw`, `write` and `save` reject with, and with UNKNOWN where `from` is
 * no state of such an encoder.
 */
export function encodeQcow2(raw: Bytes, options: EncodeOptions): Promise<EncodedQcow2> {
  async function* extents(): AsyncGenerator<Extent, void> {
    let guest = options.from?.position ?? 0
    for await (const bytes of raw) {
      yield { guest, bytes }
      guest += bytes.length
    }
  }
  return encodeInOrder(extents(), options)
}

/**
 * Encodes the same file of extents that rise and do not overlap; what is between them is zero. `end`:
 * bytes of the disk, where they may end before. Rejects as `encodeQcow2`.
 */
export async function encodeInOrder(
  extents: AsyncIterable<Extent>,
  options: EncodeOptions & { readonly end?: number },
): Promise<EncodedQcow2> {
  const { maxVirtualSize, pool, signal, from, checkpoints } = options
  await using cleanup = new AsyncDisposableStack()
  const writer = cleanup.use(
    createQcow2Writer(options, { keepsOutline: checkpoints !== undefined }),
  )
  if (from && !(await writer.resume(from))) {
    throw new CodedError('UNKNOWN', 'the kept state of an import is damaged; import it again')
  }
  const lease = pool.createLease()
  const stop = new AbortController()
  const stopped = AbortSignal.any([signal, stop.signal])

  /** Stores one batch after the others; failures stop the encode, and never reject. */
  async function storeNext(
    before: Promise<void>,
    batch: GuestBatch,
    encoding: Promise<EncodedBatch>,
  ): Promise<void> {
    const [outcome] = await Promise.allSettled([encoding, before])
    try {
      if (outcome.status === 'rejected') throw outcome.reason
      if (stopped.aborted) return
      await writer.add(batch.index, { ...outcome.value, bytes: new Uint8Array(batch.buffer) })
    } catch (error) {
      stop.abort(error)
    } finally {
      lease.release(batch.buffer)
    }
  }

  /** Once all batches before `position` are stored; failures stop the encode, and never reject. */
  async function saveNext(before: Promise<void>, position: number): Promise<void> {
    await before
    try {
      if (!stopped.aborted) await checkpoints?.save({ position, ...writer.outline() })
    } catch (error) {
      stop.abort(error)
    }
  }

  let stored = Promise.resolve()
  const filler = createBatchFiller(lease, {
    start: from?.position ?? 0,
    emit(batch) {
      stored = storeNext(stored, batch, pool.encode(batch))
    },
  })
  let saved = filler.filledBytes

  try {
    for await (const { guest, bytes } of abortable(extents, stopped)) {
      if (guest + bytes.length > maxVirtualSize) throw tooLarge(maxVirtualSize)
      filler.skip(guest - filler.filledBytes)
      // A piece may begin before the place to go on from.
      await filler.add(bytes.subarray(filler.filledBytes - guest), stopped)
      if (!checkpoints?.isDue(filler.filledBytes - saved)) continue
      saved = filler.filledBytes - (filler.filledBytes % batchBytes)
      stored = saveNext(stored, saved)
    }
    filler.skip((options.end ?? 0) - filler.filledBytes)
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
  const encoded = await writer.finish({ virtualSize, sourceSize })
  cleanup.move()
  return encoded
}

function tooLarge(limit: number): CodedError {
  return new CodedError(
    'SIZE_EXCEEDED',
    `the disk is larger than the limit of ${limit} bytes (maxVirtualSize)`,
    {
      detail: { limit },
    },
  )
}
