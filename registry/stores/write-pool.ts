import type { SharedHash } from '../../core/blob-hash.ts'
import { createThreadPool, type ThreadPool } from '../../core/thread-pool.ts'
import { workerUrl } from '../../core/worker-url.ts'

/** Bytes for a place in a file and for a hash. */
export interface WriteStep {
  readonly fd: number
  readonly position: number
  /** In shared memory; nobody changes them until the step is done. */
  readonly bytes: Uint8Array
  readonly hash: SharedHash
}

/**
 * Threads that write and hash what is shared with them: one way there and back for both, where
 * Node's own pool needs three, and each costs as much as hashing 25 KiB.
 */
export type WritePool = ThreadPool<WriteStep, void>

export const createWritePool = (): WritePool =>
  createThreadPool(workerUrl('write-worker', import.meta.url))
