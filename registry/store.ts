import type { HashPool } from '../core/hash-pool.ts'
import type { Log } from '../core/log.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { createBlobIndex } from './blob-index.ts'
import { createSessions } from './sessions.ts'
import { createStoreRegistry, type StoreRegistry } from './store-registry.ts'
import { openFolderStore } from './stores/folder.ts'
import { createUploads, type Uploads } from './uploads.ts'

const hourMs = 60 * 60 * 1000
const weekMs = 7 * 24 * hourMs

/** Everything one folder holds, owned by this process until disposed. */
export interface Store extends AsyncDisposable {
  readonly registry: StoreRegistry
  readonly uploads: Uploads
  /** For records of other parts, under their own prefix (`v1/imports/`). */
  readonly objects: ObjectStore
  /** Bytes that can still be stored. */
  freeBytes(): Promise<number>
}

export interface StoreDeps {
  readonly hashPool: HashPool
  readonly log: Log
  /** A client upload idle for so long is removed; a week unless said. */
  readonly uploadIdleLimitMs?: number
}

/**
 * Opens the store in the folder `root`, made where it is missing, and removes what an earlier
 * process left half done. Throws STORE_LOCKED where another process has it, LAYOUT_UNKNOWN where
 * it is not ours. Disposing waits for uploads at work and lets the next owner in.
 */
export async function openStore(
  root: string,
  { hashPool, log, uploadIdleLimitMs = weekMs }: StoreDeps,
): Promise<Store> {
  const folder = await openFolderStore(root, { hashPool })
  const { objects, data } = folder
  const index = createBlobIndex(objects)
  const sessions = createSessions({ objects, data, index })
  const uploads = createUploads({ sessions, data, log, idleLimitMs: uploadIdleLimitMs })
  try {
    await uploads.sweep({ importsAreDead: true })
  } catch (error) {
    await folder[Symbol.asyncDispose]()
    throw error
  }
  const sweeping = setInterval(() => {
    uploads
      .sweep({ importsAreDead: false })
      .catch((error: unknown) => log.error({ err: error }, 'cannot look for old uploads'))
  }, hourMs)
  sweeping.unref()
  return {
    registry: createStoreRegistry({ objects, data, index, sessions }),
    uploads,
    objects,
    freeBytes: () => data.freeBytes(),
    async [Symbol.asyncDispose]() {
      clearInterval(sweeping)
      await uploads.release()
      await folder[Symbol.asyncDispose]()
    },
  }
}
