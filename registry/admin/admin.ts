import type { z } from 'zod'
import type { HashPool } from '../../core/hash-pool.ts'
import type { Log } from '../../core/log.ts'
import { parseName } from '../../core/reference.ts'
import type { Bytes } from '../../core/streams.ts'
import type { BlobIndex } from '../blob-index.ts'
import type { Storage } from '../data-store.ts'
import type { Gc } from '../gc/gc.ts'
import type { Quotas, QuotaUse } from '../quota.ts'
import type { Sessions } from '../uploads/sessions.ts'
import type { StoreRegistry } from '../store-registry.ts'
import { exportStore } from './export.ts'
import { fsck, type FsckEvent } from './fsck.ts'
import { readGcState, runGc, type GcEvent, type GcRunOptions, type gcState } from './gc-run.ts'
import { importArchive, type ImportEvent, type ImportOptions } from './import.ts'
import { removeRepository, type RemovedRepository } from './remove-repository.ts'
import { createScrub, type Scrub } from './scrub.ts'
import {
  countOf,
  describeRepository,
  listUse,
  type RepositoryDetail,
  type RepositoryUse,
} from './usage.ts'

/** What an operator does with a whole store, here or over HTTP (`cli/registry-client.ts`). */
export interface Admin {
  readonly gc: GcAdmin
  readonly scrub: Scrub
  readonly archive: ArchiveAdmin
  readonly repositories: RepositoryAdmin
  readonly quotas: QuotaAdmin
  /** Verifies every invariant of the layout while the store is at work. */
  fsck(options: {
    readonly dataDigests: boolean
    readonly signal: AbortSignal
  }): AsyncIterable<FsckEvent>
}

export interface GcAdmin {
  run(options: GcRunOptions): AsyncIterable<GcEvent>
  state(): Promise<z.output<typeof gcState>>
}

export interface ArchiveAdmin {
  /** Chunks are valid until the next one is asked for. */
  export(signal: AbortSignal): AsyncIterable<Uint8Array>
  /** Throws ARCHIVE_INVALID, TAG_EXISTS and what storing throws; then nothing was tagged. */
  import(bytes: Bytes, options: ImportOptions): AsyncIterable<ImportEvent>
}

export interface RepositoryAdmin {
  list(signal: AbortSignal): AsyncIterable<RepositoryUse>
  /** Throws NAME_UNKNOWN. */
  describe(name: string): Promise<RepositoryDetail>
  /** Throws NAME_UNKNOWN, TAG_IMMUTABLE. */
  remove(name: string): Promise<RemovedRepository>
}

export interface QuotaAdmin {
  list(): Promise<QuotaUse[]>
  /** Counts anew; false where pushes may have disturbed it. */
  recount(): Promise<boolean>
}

export interface AdminParts extends Pick<Storage, 'objects' | 'data' | 'files'> {
  readonly registry: StoreRegistry
  readonly index: BlobIndex
  readonly sessions: Sessions
  readonly gc: Gc
  readonly quotas: Quotas
  readonly hashPool: HashPool
  readonly log: Log
  readonly scratchFolder: string
  readonly orphanGraceMs: number
  readonly isImmutable: (repository: string, tag: string) => boolean
}

export function createAdmin(parts: AdminParts): Admin {
  const { objects, gc, quotas, files } = parts
  return {
    gc: { run: (options) => runGc(gc, options), state: () => readGcState(gc) },
    scrub: createScrub({ ...parts, accounts: quotas }),
    archive: {
      export: (signal) => exportStore(parts, signal),
      import: (bytes, options) => importArchive({ ...parts, reservations: quotas }, bytes, options),
    },
    repositories: {
      list: (signal) => listUse(objects, signal),
      describe: (name) => describeRepository(objects, parseName(name)),
      remove: (name) => removeRepository(parts, name),
    },
    quotas: {
      list: () => quotas.list(),
      recount: () => quotas.recount(countOf(objects)),
    },
    fsck: (options) => fsck({ ...parts, isFiles: files !== undefined }, options),
  }
}
