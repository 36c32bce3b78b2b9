import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { workerUrl } from '../core/worker-url.ts'
import {
  batchBytes,
  type ClusterReply,
  type ClusterRequest,
  type ClusterThread,
  type EncodedBatch,
} from './cluster-batch.ts'

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
  encode(batch: Omit<ClusterRequest, 'id'>): Promise<EncodedBatch>
}

/**
 * Starts threads with the first use; idle ones do not keep the process alive. Memory: one buffer
 * of 4 MiB per running encode and `threads + 1` shared by all.
 */
export function createClusterPool({
  threads: mostThreads = Math.min(4, availableParallelism()),
} = {}): ClusterPool {
  const threads: ClusterThread[] = []
  const spare: SharedArrayBuffer[] = []
  const waiting: (() => void)[] = []
  let sharedInUse = 0
  let nextId = 0

  function startThread(): ClusterThread {
    const thread: ClusterThread = {
      worker: new Worker(workerUrl('cluster-worker', import.meta.url)),
      pending: new Map(),
    }
    const { worker, pending } = thread
    const fail = (error: unknown): void => {
      const at = threads.indexOf(thread)
      if (at >= 0) threads.splice(at, 1)
      for (const job of pending.values()) job.reject(error)
      pending.clear()
    }
    worker.unref()
    worker.on('message', (reply: ClusterReply) => {
      const job = pending.get(reply.id)
      pending.delete(reply.id)
      if (pending.size === 0) worker.unref()
      if ('encoded' in reply) job?.resolve(reply.encoded)
      else job?.reject(reply.error)
    })
    worker.on('error', fail)
    worker.on('exit', (code) => fail(new Error(`encoder thread ended with code ${code}`)))
    threads.push(thread)
    return thread
  }

  function pickThread(): ClusterThread {
    const [least] = [...threads].sort((a, b) => a.pending.size - b.pending.size)
    const isFree = least !== undefined && least.pending.size === 0
    return least && (isFree || threads.length >= mostThreads) ? least : startThread()
  }

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
    encode(batch) {
      const thread = pickThread()
      const id = nextId++
      const job = Promise.withResolvers<EncodedBatch>()
      thread.pending.set(id, job)
      thread.worker.ref()
      thread.worker.postMessage({ id, ...batch } satisfies ClusterRequest)
      return job.promise
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(threads.splice(0).map(({ worker }) => worker.terminate()))
    },
  }
}
