import type { DiskFormat } from './disk-format.ts'

/**
 * The stages of an import in order: `connect` to the source, `transfer` its bytes (decompression,
 * encoding and storing run along), `digest` what is hashed only at the end, `push` to another
 * registry, `commit`.
 */
export const importStages = ['connect', 'transfer', 'digest', 'push', 'commit'] as const
export type ImportStage = (typeof importStages)[number]

/** What long work tells while it runs. Bytes only grow within a stage; stages only advance. */
export type ImportEvent =
  | {
      readonly type: 'progress'
      readonly stage: ImportStage
      readonly bytes: number
      readonly totalBytes: number | undefined
    }
  | {
      readonly type: 'detected'
      readonly format: DiskFormat
      readonly virtualSize: number | undefined
    }
  | { readonly type: 'warning'; readonly message: string }

/** Takes an event; never throws, blocks or answers. */
export type Report = (event: ImportEvent) => void
