import { detect, headBytes } from '../converter/detect.ts'
import type { HashPool } from '../core/hash-pool.ts'
import type { Compression } from '../core/disk-format.ts'
import { observed, peek, skipping } from '../core/streams.ts'
import { unpackAppliance } from './appliance.ts'
import { verified, type ChecksumState } from './checksums.ts'
import type { OnBoundary } from './decoders/boundary.ts'
import { decompress, decompressFrom } from './decoders/decompress.ts'
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
  /** Told where decoding could go on, where that is asked for. */
  readonly onBoundary: OnBoundary | undefined
}

/** Disposing it closes what the body is read through. */
export interface OpenedDisk extends IncomingDisk, AsyncDisposable {
  /** What its bytes were unwrapped from; `undefined` where they were unpacked, or decompressed twice. */
  readonly wrapping: Compression | 'none' | undefined
}

/**
 * The disk in a source: transferred, checked, decompressed, unpacked and looked at. `past` is what an
 * earlier run knew of the same content: where decoding can go on in the middle, or the source begins
 * there, the body does too.
 * Throws what `verified`, `decompress`, `unpackAppliance` and `detect` throw.
 */
export async function openDisk(
  source: Source,
  { checksums }: Pick<ImportRequest, 'checksums'>,
  past: ImportCheckpoint | undefined,
  deps: OpenDiskDeps,
): Promise<OpenedDisk> {
  const { hashPool, progress, onChecksums } = deps
  const isChecked = Object.values(checksums).some((hex) => hex !== undefined)
  const isTold = source.length !== undefined || isChecked
  progress.begin(source.offset)
  const counted = observed(source.body, (chunk) =>
    progress.transferred(chunk.length, source.length),
  )
  const checked = verified(counted, checksums, {
    hashPool,
    label: source.label,
    from: source.offset > 0 ? past?.checksums : undefined,
    onState: onChecksums,
  })
  if (past?.decoding) {
    const { head, decoding } = past
    const { decoded: start, compression: wrapping } = decoding
    const skipped = skipping(checked, decoding.compressed - source.offset)
    const body = decompressFrom(skipped, decoding, deps)
    const detected = detect(head, { length: undefined })
    const rest = { head, length: undefined, wrapping, isProven: true, detected }
    return opened({ body, start, ranges: undefined, ...rest })
  }
  if (past && source.offset > 0) {
    const { head } = past
    const { length, offset: start } = source
    const detected = detect(head, { length })
    const rest = { head, length, wrapping: 'none', isProven: isTold, detected } as const
    return opened({ body: checked, start, ranges: undefined, ...rest })
  }
  const plain = await decompress(checked, deps)
  const unpacked = await unpackAppliance(plain.body, deps)
  const { head, rest } = await peek(unpacked.body, headBytes)
  const [outer = 'none', inner] = plain.wrappings
  const wrapping = unpacked.isAppliance || inner ? undefined : outer
  const isPlain = wrapping === 'none'
  const length = unpacked.length ?? (isPlain ? source.length : undefined)
  const detected = detect(head, { length })
  // Decoders and archives find out themselves where something is missing.
  const isProven = isTold || !isPlain
  const ranges = isPlain && !isChecked ? rangesOf(source, progress) : undefined
  return opened({ body: rest, ranges, start: 0, head, length, wrapping, isProven, detected })
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
