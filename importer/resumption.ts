import { tailBytes } from '../converter/detect.ts'
import { encoderVersion } from '../converter/qcow2-encoder.ts'
import { canResume, checksumStart, type ChecksumState } from './checksums.ts'
import type { ImportCheckpoint } from './import-checkpoint.ts'
import type { ImportRequest } from './import-request.ts'
import type { OpenedDisk } from './open-disk.ts'
import type { PackKeeper } from './pack.ts'
import type { Source, SourcePlace } from './sources/source.ts'

/** What one run of an import takes from the run before it, and leaves to the next. */
export interface Resumption {
  /** Where the source is to begin. */
  readonly place: SourcePlace | undefined
  /** What the run before knew, where the source still has the same content; else it is removed. */
  pastOf(source: Source): Promise<ImportCheckpoint | undefined>
  /** For `verified`; `undefined` where nothing is kept. */
  readonly onChecksums: ((state: ChecksumState) => void) | undefined
  /** `undefined` where nothing is kept, or the source does not say what pins its content. */
  keeperOf(source: Source, disk: OpenedDisk): PackKeeper | undefined
}

/** The places of checking that lie behind what is packed; packing is never further behind. */
const mostStates = 16

export async function prepareResumption({
  keeper,
  checksums,
}: Pick<ImportRequest, 'keeper' | 'checksums'>): Promise<Resumption> {
  if (!keeper) {
    return {
      place: undefined,
      pastOf: async () => undefined,
      onChecksums: undefined,
      keeperOf: () => undefined,
    }
  }
  const kept = await keeper.load()
  const isUsable = kept?.pack.version === encoderVersion && canResume(kept.checksums, checksums)
  const past = isUsable ? kept : undefined
  const states: ChecksumState[] = []

  /** The last place, at least `tailBytes` before `position`, from which checking can go on. */
  const stateBefore = (position: number): ChecksumState | undefined =>
    checksumStart(checksums, Math.max(0, position - tailBytes)) ??
    states.findLast(({ bytes }) => bytes <= position - tailBytes)

  return {
    place: past?.source,
    async pastOf({ pin, length }) {
      const isSame = past && pin === past.source.pin && length === past.source.length
      if (!isSame) {
        await keeper.forget()
        return undefined
      }
      if (past.checksums.bytes > 0) states.push(past.checksums)
      return past
    },
    onChecksums(state) {
      states.push(state)
      if (states.length > mostStates) states.shift()
    },
    keeperOf({ pin, length }, { isPlain, head, detected: { format } }) {
      if (pin === undefined || length === undefined) return undefined
      return {
        everyBytes: keeper.everyBytes,
        putPiece: (index, bytes) => keeper.putPiece(index, bytes),
        getPiece: (index) => keeper.getPiece(index),
        async save(pack) {
          // Of a disk that is read by its tables the position says nothing of the transfer.
          const isInOrder = pack.encoder === undefined || format === 'raw' || format === 'iso'
          const before = isPlain && isInOrder ? stateBefore(pack.position) : undefined
          const state = before ?? { bytes: 0, hashes: {} }
          const source = { offset: state.bytes, pin, length }
          await keeper.save({ source, checksums: state, head, pack })
        },
      }
    },
  }
}
