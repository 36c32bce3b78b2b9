import type { ChecksumState } from './checksums.ts'
import type { DecodingPlace } from './decoders/decompress.ts'
import type { PieceStore } from './layer-pieces.ts'
import type { PackState } from './pack.ts'
import type { SourcePlace } from './sources/source.ts'

/** How far an import has come, for a run in this or another process that goes on with it. */
export interface ImportCheckpoint {
  /** Where the transfer goes on; 0 where the bytes before are needed to decode what follows. */
  readonly source: SourcePlace
  /** Where decoding goes on, at that place or behind it; `undefined` where it begins anew or nothing is decoded. */
  readonly decoding: DecodingPlace | undefined
  /** Of the bytes before that place. */
  readonly checksums: ChecksumState
  /** The first bytes of the disk, which tell what it is. */
  readonly head: Uint8Array
  readonly pack: PackState
}

/** Where the checkpoints of one import are kept. */
export interface CheckpointKeeper extends PieceStore {
  /** Bytes of the disk between two of them. */
  readonly everyBytes: number
  /** The last one saved, with all encoder records so far; `undefined` where there is none. */
  load(): Promise<ImportCheckpoint | undefined>
  /** Removes it, and what the registry keeps for it. */
  forget(): Promise<void>
  /** Its encoder records are those since the last call, or since what was loaded. */
  save(checkpoint: ImportCheckpoint): Promise<void>
}
