import type { Digest } from '../core/digest.ts'
import type { DiskFormat } from '../core/disk-format.ts'
import type { Checksums } from './checksums.ts'
import type { StoreMode } from './plan.ts'
import type { Source } from './sources/source.ts'

/** What one run of the pipeline is asked for. */
export interface ImportRequest {
  /** Opened by the pipeline and closed by it. */
  readonly openSource: (signal: AbortSignal) => Promise<Source>
  readonly name: string
  readonly tag: string
  /** Move the tag where it already points to another image; false: TAG_EXISTS. */
  readonly replace: boolean
  readonly store: StoreMode
  readonly checksums: Checksums
  /** What the disk is for, and which one of a container image for several. */
  readonly architecture: string
}

/** What was imported; sizes in bytes. */
export interface ImportedImage {
  readonly name: string
  readonly tag: string
  readonly digest: Digest
  readonly format: DiskFormat
  readonly storedFormat: DiskFormat
  readonly virtualSize: number
  readonly layerDigest: Digest
  readonly storedSize: number
  readonly contentDigest: Digest | undefined
  /** As transferred, before decompression. */
  readonly sourceBytes: number
  readonly scratchBytes: number
}
