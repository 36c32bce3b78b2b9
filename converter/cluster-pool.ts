import { createThreadPool } from '../core/thread-pool.ts'
import { workerUrl } from '../core/worker-url.ts'
import { batchBytes, type ClusterRequest, type EncodedBatch } from './cluster-batch.ts'

/** The batch buffers that one encode uses; `dispose` after all of them are released. */
export interface BufferLease {
  /**
   * A buffer of one batch, contents undefined. The first of a lease comes at once, further ones
   * when the pool has room; rejects with the signal's reason.
   */
  acquire(signal: AbortSignal): Promise<SharedArrayBuffer>
  release(buffer: SharedArrayBuffer): void
}

/** Threads that hash and compress clusters, shared by any number of encodes. */
export interface ClusterPool extends AsyncDisposable {
  createLease(): BufferLease
  /** Encodes in place; the buffer belongs to the thread until it settles. */
  encode(batch: ClusterRequest): Promise<EncodedBatch>
}

/**
 * Starts threads with the first use; idle ones do not keep the process alive. Memory: one buffer
 * of 4 MiB per running encode and `threads + 1` shared by all.
 */
export function createClusterPool(options: { readonly threads?: number } = {}): ClusterPool {
  const pool = createThreadPool<ClusterRequest, EncodedBatch>(
    workerUrl('cluster-worker', import.meta.url),
    options,
  )
  const { mostThreads } = pool
  const spare: SharedArrayBuffer[] = []
  const waiting: (() => void)[] = []
  let sharedInUse = 0

  function createLease(): BufferLease {
    let held = 0
    let ownWaiter: (() => void) | undefined

    function waitForRoom(signal: AbortSignal): Promise<void> {
      return new Promise((resolve, reject) => {
        const leave = (): void => {
          signal.removeEventListener('abort', giveUp)
          ownWaiter = undefined
        }
        const grant = (): void => {
          leave()
          held++
          resolve()
        }
        const giveUp = (): void => {
          leave()
          forget(grant)
          reject(signal.reason)
        }
        ownWaiter = grant
        waiting.push(grant)
        signal.addEventListener('abort', giveUp)
      })
    }

    return {
      async acquire(signal) {
        signal.throwIfAborted()
        if (held > 0 && sharedInUse > mostThreads) {
          await waitForRoom(signal)
        } else {
          if (held > 0) sharedInUse++
          held++
        }
        return spare.pop() ?? new SharedArrayBuffer(batchBytes)
      },
      release(buffer) {
        if (spare.length <= mostThreads) spare.push(buffer)
        held--
        if (held > 0) {
          const next = waiting.shift()
          if (next) next()
          else sharedInUse--
        } else if (ownWaiter) {
          // What it waits for is now the buffer that every lease may have.
          forget(ownWaiter)
          ownWaiter()
        }
      },
    }
  }

  function forget(waiter: () => void): void {
    waiting.splice(waiting.indexOf(waiter), 1)
  }

  return {
    createLease,
    encode: pool.run,
    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
  }
}
