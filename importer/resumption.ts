import { tailBytes } from '../converter/detect.ts'
import { encoderVersion } from '../converter/qcow2-encoder.ts'
import { canResume, checksumStart, type ChecksumState } from './checksums.ts'
import type { Boundary, OnBoundary } from './decoders/boundary.ts'
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
  /** For `decompress`; the same. */
  readonly onBoundary: OnBoundary | undefined
  /** `undefined` where nothing is kept, or the source does not say what pins its content. */
  keeperOf(source: Source, disk: OpenedDisk): PackKeeper | undefined
}

/** The places of checking that lie behind what is packed; packing is never further behind. */
const mostStates = 16
/** The same for boundaries, which are a mebibyte apart. */
const mostBoundaries = 256

const nothingChecked: ChecksumState = { bytes: 0, hashes: {} }

export async function prepareResumption({
  keeper,
  checksums,
}: Pick<ImportRequest, 'keeper' | 'checksums'>): Promise<Resumption> {
  if (!keeper) {
    return {
      place: undefined,
      pastOf: async () => undefined,
      onChecksums: undefined,
      onBoundary: undefined,
      keeperOf: () => undefined,
    }
  }
  const kept = await keeper.load()
  const isUsable = kept?.pack.version === encoderVersion && canResume(kept.checksums, checksums)
  const past = isUsable ? kept : undefined
  const states: ChecksumState[] = []
  /** Each with where checking can go on before it. */
  const boundaries: { readonly at: Boundary; readonly checksums: ChecksumState }[] = []

  /** The last place up to `offset` from which checking can go on. */
  const stateUpTo = (offset: number): ChecksumState =>
    checksumStart(checksums, Math.max(0, offset)) ??
    states.findLast(({ bytes }) => bytes <= offset) ??
    nothingChecked

  /** The last place from which all of the disk behind its first `position` bytes can be had. */
  function placeUpTo(
    position: number,
    wrapping: OpenedDisk['wrapping'],
  ): Pick<ImportCheckpoint, 'checksums' | 'decoding'> {
    if (wrapping === 'none') return { checksums: stateUpTo(position), decoding: undefined }
    const boundary = boundaries.findLast(({ at }) => at.decoded <= position)
    if (!wrapping || !boundary) return { checksums: nothingChecked, decoding: undefined }
    return { checksums: boundary.checksums, decoding: { ...boundary.at, compression: wrapping } }
  }

  return {
    place: past?.source,
    async pastOf({ pin, length }) {
      const isSame = past && pin === past.source.pin && length === past.source.length
      if (!isSame) {
        await keeper.forget()
        return undefined
      }
      if (past.checksums.bytes > 0) states.push(past.checksums)
      if (past.decoding) boundaries.push({ at: past.decoding, checksums: past.checksums })
      return past
    },
    onChecksums(state) {
      states.push(state)
      if (states.length > mostStates) states.shift()
    },
    onBoundary(at) {
      boundaries.push({ at, checksums: stateUpTo(at.compressed) })
      if (boundaries.length > mostBoundaries) boundaries.shift()
    },
    keeperOf({ pin, length }, { wrapping, head, detected: { format } }) {
      if (pin === undefined || length === undefined) return undefined
      return {
        everyBytes: keeper.everyBytes,
        putPiece: (index, bytes) => keeper.putPiece(index, bytes),
        getPiece: (index) => keeper.getPiece(index),
        async save(pack) {
          // Of a disk that is read by its tables the position says nothing of the transfer.
          const isInOrder = pack.encoder === undefined || format === 'raw' || format === 'iso'
          const position = isInOrder ? pack.position : 0
          const place = placeUpTo(position - tailBytes, wrapping)
          const source = { offset: place.checksums.bytes, pin, length }
          await keeper.save({ ...place, source, head, pack })
        },
      }
    },
  }
}
