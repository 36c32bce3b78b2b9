import { digestAlgorithm, digestHex, type Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { HashResult } from '../../core/hash-pool.ts'
import type { DataWriter, WriteOptions } from '../data-store.ts'
import type { Checkpoint } from '../records.ts'
import { createRunningHash } from './running-hash.ts'
import type { PieceBudget } from './s3-budget.ts'
import { readCheckpoint } from './s3-checkpoint.ts'
import type { S3 } from './s3-client.ts'
import type { Finisher } from './s3-finish.ts'
import { choosePartBytes, type S3Limits } from './s3-limits.ts'
import { createPipeline } from './s3-pipeline.ts'
import { createSegments } from './s3-segments.ts'
import { uploadIsGone, type Sender } from './s3-source.ts'
import { createTails } from './s3-tails.ts'

export interface WriterParts {
  readonly s3: S3
  readonly sender: Sender
  readonly finisher: Finisher
  readonly budget: PieceBudget
  readonly limits: S3Limits
  /** Removes tail objects some time; what is left of them goes with the data object. */
  readonly removeTails: (names: readonly string[]) => void
}

/** Appends to one data object in parts, of which some are on their way while one fills. */
export function createS3Writer(
  uuid: string,
  options: WriteOptions,
  parts: WriterParts,
): DataWriter {
  const { from = { offset: 0 }, expectedBytes = 0, algorithm, chunkDigests = false } = options
  const { s3, sender, finisher, budget, limits, removeTails } = parts
  const begin = readCheckpoint(from)
  const segments = createSegments(uuid, begin.segments, { s3, mostParts: limits.mostParts })
  // An earlier writer may have left more of them than it recorded.
  const tails = createTails({ ...begin, hasTails: begin.hasTails || from.s3 !== undefined })
  const partBytes = choosePartBytes(expectedBytes, limits)
  let open = start(from)

  function start(at: Checkpoint) {
    const hash = startHash(at)
    const pipeline = createPipeline(at, {
      segments,
      tails,
      hash,
      hashesOf: (state) => (state === undefined ? {} : { hashes: { [algorithm]: state } }),
      sender,
      budget,
      limits,
      partBytes,
      record: options.record,
      remove: removeTails,
    })
    return { hash, pipeline, isSealed: false }
  }

  /** `undefined` where bytes before were not hashed: they are read again at the end. */
  function startHash({ offset, hashes }: Checkpoint) {
    if (offset === 0) return createRunningHash({ algorithm, chunkDigests })
    const state = hashes?.[algorithm]
    return state === undefined ? undefined : createRunningHash({ algorithm }, state)
  }

  /** Everything is in parts or in an object; a small blob is one request. */
  async function seal(expected?: Digest): Promise<void> {
    const { pipeline, isSealed } = open
    if (isSealed) return
    if (!pipeline.isSmall) await pipeline.flush()
    else {
      const bytes = pipeline.end
      await pipeline.sendWhole((source, signal) =>
        segments.addStored(bytes, async (key) => {
          if (await sender.object(key, source, signal)) return true
          return expected !== undefined && (await finisher.hasBytes(key, bytes, expected))
        }),
      )
    }
    open.isSealed = true
  }

  /** Digest by another algorithm than the one that was followed, or of bytes before a gap. */
  async function hashStored(options: Parameters<Finisher['hash']>[2]): Promise<HashResult> {
    await seal()
    const proven = await finisher.prove(uuid, segments.snapshot(), segments.etags)
    if (!(await finisher.store(uuid, proven))) throw uploadIsGone(uuid)
    segments.markStored()
    return finisher.hash(uuid, proven, options)
  }

  async function digest(): Promise<HashResult> {
    const { hash, pipeline } = open
    if (!hash) return hashStored({ algorithm, chunkDigests })
    // The parts first: what they record of the hash ends with it.
    if (!pipeline.isSmall) await seal()
    await pipeline.hashed()
    return hash.finish()
  }

  async function hexOf(expected: Digest): Promise<string> {
    if (digestAlgorithm(expected) === algorithm) return (await digest()).hex
    return (await hashStored({ algorithm: digestAlgorithm(expected) })).hex
  }

  async function close(): Promise<void> {
    await open.pipeline.stop()
  }

  return {
    get end() {
      return open.pipeline.end
    },
    write: (chunk) => open.pipeline.write(chunk),
    checkpoint: () => open.pipeline.checkpoint(),
    async rollback(to) {
      await close()
      segments.rollback(readCheckpoint(to).segments)
      tails.rollback(readCheckpoint(to).tails)
      removeTails(tails.garbage())
      open = start(to)
    },
    digest,
    async finish(expected) {
      const hex = await hexOf(expected)
      if (hex !== digestHex(expected)) {
        throw new CodedError(
          'DIGEST_INVALID',
          `the ${open.pipeline.end} bytes sent do not have the digest ${expected}; they have ${digestAlgorithm(expected)}:${hex}`,
        )
      }
      await seal(expected)
      const { offset, s3 } = open.pipeline.describe()
      const proven = await finisher.prove(uuid, segments.snapshot(), segments.etags)
      return { offset, s3: { ...s3, segments: proven, tails: [], digest: expected } }
    },
    async [Symbol.asyncDispose]() {
      await close()
      removeTails(tails.unnamed())
      await segments.release()
    },
  }
}
