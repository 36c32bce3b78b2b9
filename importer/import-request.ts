import type { Digest } from '../core/digest.ts'
import type { DiskFormat } from '../core/disk-format.ts'
import type { Checksums } from './checksums.ts'
import type { CheckpointKeeper } from './import-checkpoint.ts'
import type { StoreMode } from './plan.ts'
import type { Source, SourcePlace } from './sources/source.ts'

/** What one run of the pipeline is asked for. */
export interface ImportRequest {
  /** Opened by the pipeline and closed by it. */
  readonly openSource: (signal: AbortSignal, from: SourcePlace | undefined) => Promise<Source>
  readonly name: string
  readonly tag: string
  /** Move the tag where it already points to another image; false: TAG_EXISTS. */
  readonly replace: boolean
  readonly store: StoreMode
  readonly checksums: Checksums
  /** What the disk is for, and which one of a container image for several; found out unless given. */
  readonly architecture?: string | undefined
  /** Where it keeps how far it is, to go on there in a later run. */
  readonly keeper?: CheckpointKeeper
}

/** What was imported; sizes in bytes. */
export interface ImportedImage {
  readonly name: string
  readonly tag: string
  readonly digest: Digest
  readonly format: DiskFormat
  readonly storedFormat: DiskFormat
  /** As asked for, else as found on the disk. */
  readonly architecture: string | undefined
  readonly virtualSize: number
  readonly layerDigest: Digest
  readonly storedSize: number
  readonly contentDigest: Digest | undefined
  /** As transferred, before decompression. */
  readonly sourceBytes: number
  readonly scratchBytes: number
}
