import { detect, headBytes } from '../converter/detect.ts'
import type { HashPool } from '../core/hash-pool.ts'
import { observed, peek } from '../core/streams.ts'
import { unpackAppliance } from './appliance.ts'
import { verified, type ChecksumState } from './checksums.ts'
import { decompress } from './decoders/decompress.ts'
import type { ImportCheckpoint } from './import-checkpoint.ts'
import type { ImportRequest } from './import-request.ts'
import type { DiskRanges, IncomingDisk } from './pack.ts'
import type { Progress } from './progress.ts'
import type { Source } from './sources/source.ts'

export interface OpenDiskDeps {
  readonly hashPool: HashPool
  readonly scratchFolder: string
  /** Bytes of the largest disk: what bounds decompression. */
  readonly maxVirtualSize: number
  readonly progress: Progress
  /** Told where checking could go on, where that is asked for. */
  readonly onChecksums: ((state: ChecksumState) => void) | undefined
}

/** Disposing it closes what the body is read through. */
export interface OpenedDisk extends IncomingDisk, AsyncDisposable {
  /** Its bytes are the transferred ones, neither decompressed nor unpacked. */
  readonly isPlain: boolean
}

/**
 * The disk in a source: transferred, checked, decompressed, unpacked and looked at. `past` is what an
 * earlier run knew of the same content; where the source begins behind its start the body does too.
 * Throws what `verified`, `decompress`, `unpackAppliance` and `detect` throw.
 */
export async function openDisk(
  source: Source,
  { checksums }: Pick<ImportRequest, 'checksums'>,
  past: ImportCheckpoint | undefined,
  deps: OpenDiskDeps,
): Promise<OpenedDisk> {
  const { hashPool, progress, onChecksums } = deps
  const midway = source.offset > 0 ? past : undefined
  const isChecked = Object.values(checksums).some((hex) => hex !== undefined)
  const isTold = source.length !== undefined || isChecked
  progress.begin(source.offset)
  const counted = observed(source.body, (chunk) =>
    progress.transferred(chunk.length, source.length),
  )
  const checked = verified(counted, checksums, {
    hashPool,
    label: source.label,
    from: midway?.checksums,
    onState: onChecksums,
  })
  if (midway) {
    const { length } = source
    const detected = detect(midway.head, { length })
    const start = source.offset
    const rest = { head: midway.head, length, isPlain: true, isProven: isTold, detected }
    return opened({ body: checked, start, ranges: undefined, ...rest })
  }
  const plain = await decompress(checked, deps)
  const unpacked = await unpackAppliance(plain.body, deps)
  const { head, rest } = await peek(unpacked.body, headBytes)
  const isPlain = !unpacked.isAppliance && plain.wrappings.length === 0
  const length = unpacked.length ?? (isPlain ? source.length : undefined)
  const detected = detect(head, { length })
  // Decoders and archives find out themselves where something is missing.
  const isProven = isTold || !isPlain
  const ranges = isPlain && !isChecked ? rangesOf(source, progress) : undefined
  return opened({ body: rest, ranges, start: 0, head, length, isPlain, isProven, detected })
}

function rangesOf({ readRange, length }: Source, progress: Progress): DiskRanges | undefined {
  if (!readRange || length === undefined) return undefined
  let totalBytes = length
  return {
    size: length,
    expect: (bytes) => (totalBytes = progress.sourceBytes + bytes),
    read: (range) =>
      observed(readRange(range), (chunk) => progress.transferred(chunk.length, totalBytes)),
  }
}

function opened(
  disk: Omit<OpenedDisk, keyof AsyncDisposable> & {
    readonly body: AsyncGenerator<Uint8Array, void>
  },
): OpenedDisk {
  return { ...disk, [Symbol.asyncDispose]: () => disk.body[Symbol.asyncDispose]() }
}
