import { tmpdir } from 'node:os'
import type { HashPool } from '../core/hash-pool.ts'
import type { Log } from '../core/log.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { createAdmin, type Admin } from './admin/admin.ts'
import { createBlobIndex } from './blob-index.ts'
import type { Storage } from './data-store.ts'
import { keepFree } from './free-space-floor.ts'
import { createGc, type Gc, type GcOptions } from './gc/gc.ts'
import { createQuotas, type QuotaRule, type Quotas } from './quota.ts'
import { neverRedirect, type RedirectPolicy } from './redirect.ts'
import { createIsImmutable } from './retention.ts'
import { createSessions } from './uploads/sessions.ts'
import { createStoreRegistry, type StoreRegistry } from './store-registry.ts'
import { openFolderStore } from './stores/folder.ts'
import { createUploads, type Uploads } from './uploads/uploads.ts'

const hourMs = 60 * 60 * 1000
const weekMs = 7 * 24 * hourMs

/** Everything one storage holds. */
export interface Store extends AsyncDisposable {
  readonly registry: StoreRegistry
  readonly uploads: Uploads
  readonly gc: Gc
  readonly quotas: Quotas
  /** What operators do with all of it. */
  readonly admin: Admin
  /** For records of other parts, under their own prefix (`v1/imports/`). */
  readonly objects: ObjectStore
  /** No other process uses it. */
  readonly isOwned: boolean
  /** Bytes that can still be stored. */
  freeBytes(): Promise<number>
}

/** What an administrator decides about the contents of a store. */
export interface StorePolicy extends GcOptions {
  readonly quotas: readonly QuotaRule[]
  /** What stays free of a file system; data that would take it is refused with STORAGE_FULL. */
  readonly minFreeBytes: number
}

/** Blobs of a push keep 48 hours for their manifest. */
export const defaultPolicy: StorePolicy = {
  orphanGraceMs: 48 * hourMs,
  sweepEveryMs: hourMs,
  retention: [],
  immutable: [],
  quotas: [],
  minFreeBytes: 0,
}

export interface StoreDeps {
  /** Never, unless said. */
  readonly redirect?: RedirectPolicy
  readonly policy?: StorePolicy
  readonly hashPool: HashPool
  readonly log: Log
  /** The storage with its operations counted. */
  readonly measure?: (storage: Storage) => Storage
  /** A client upload idle for so long is removed; a week unless said. */
  readonly uploadIdleLimitMs?: number
  /** For blobs not written in order, on storage that is not made of files; `/tmp` unless said. */
  readonly scratchFolder?: string
}

/**
 * Opens the store in the folder `root`, made where it is missing. Throws STORE_LOCKED where
 * another process has it, LAYOUT_UNKNOWN where it is not ours.
 */
export async function openStore(root: string, deps: StoreDeps): Promise<Store> {
  return createStore(await openFolderStore(root, deps), deps)
}

/**
 * The store on `storage`, which it disposes; what an earlier process left half done is removed.
 * Disposing waits for uploads at work.
 */
export async function createStore(storage: Storage, deps: StoreDeps): Promise<Store> {
  const { hashPool, log, uploadIdleLimitMs = weekMs, scratchFolder = tmpdir() } = deps
  const { policy = defaultPolicy, measure = (it) => it } = deps
  const { objects, data, files, isOwned } = keepFree(measure(storage), policy.minFreeBytes)
  const quotas = createQuotas(objects, policy.quotas)
  const gc = createGc({ objects, data, accounts: quotas, log }, policy)
  const { onDeleted, onUntagged, onUnlinked } = gc.collector
  const index = createBlobIndex(objects, { onUnlinked, accounts: quotas })
  const sessions = createSessions({ objects, data, index, reservations: quotas })
  const uploads = createUploads({
    sessions,
    data,
    reservations: quotas,
    log,
    idleLimitMs: uploadIdleLimitMs,
  })
  try {
    await uploads.sweep({ importsAreDead: isOwned })
  } catch (error) {
    await storage[Symbol.asyncDispose]()
    throw error
  }
  const sweeping = setInterval(() => {
    uploads
      .sweep({ importsAreDead: false })
      .catch((error: unknown) => log.error({ err: error }, 'cannot look for old uploads'))
  }, hourMs)
  sweeping.unref()
  const isImmutable = createIsImmutable(policy.immutable)
  const registry = createStoreRegistry({
    objects,
    data,
    files,
    index,
    reservations: quotas,
    sessions,
    hashPool,
    scratchFolder,
    onDeleted,
    onUntagged,
    isImmutable,
    redirect: deps.redirect ?? neverRedirect,
  })
  const { orphanGraceMs } = policy
  const found = { objects, data, files, registry, index, sessions, gc, quotas }
  return {
    registry,
    uploads,
    gc,
    quotas,
    admin: createAdmin({ ...found, hashPool, log, scratchFolder, orphanGraceMs, isImmutable }),
    objects,
    isOwned,
    freeBytes: () => data.freeBytes(),
    async [Symbol.asyncDispose]() {
      clearInterval(sweeping)
      await gc[Symbol.asyncDispose]()
      await uploads.release()
      await storage[Symbol.asyncDispose]()
    },
  }
}
