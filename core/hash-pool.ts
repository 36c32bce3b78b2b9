import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { HashAlgorithm } from './resumable-hash.ts'
import { workerUrl } from './worker-url.ts'

/** Bytes covered by one chunk digest (`docs/stored-image.md`). */
export const chunkBytes = 4 * 1024 * 1024

export interface HashOptions {
  /** Default sha256. */
  readonly algorithm?: HashAlgorithm
  /** Also hash every 4 MiB; only without `from`. */
  readonly chunkDigests?: boolean
  /** A saved state to go on from. */
  readonly from?: string | undefined
}

export interface HashResult {
  /** Lower-case hex. */
  readonly hex: string
  /** 32 bytes per 4 MiB; empty unless asked for. */
  readonly chunkDigests: Uint8Array
}

/**
 * The digest of a file that another thread computes while this one still writes it. Disposing gives
 * it up where it is not finished, and resolves when the thread has closed the file: one that is
 * deleted then keeps no room.
 */
export interface FileHash extends AsyncDisposable {
  /** The file now holds the bytes up to `end` (exclusive, from the file's start). Never blocks. */
  advance(end: number): void
  /** Hashes up to `end` and resolves; rejects where the file cannot be read that far. */
  finish(end: number): Promise<HashResult>
}

/** The digest of a stream of chunks, computed on another thread. */
export interface StreamHash extends Disposable {
  /** Takes a copy of `chunk`; waits while more than a few MiB are not hashed yet. */
  write(chunk: Uint8Array): Promise<void>
  /** The state after all that was written, for `from`; `undefined` where this platform has none. */
  save(): Promise<string | undefined>
  finish(): Promise<HashResult>
}

export interface HashPool extends AsyncDisposable {
  /** Hashes the file at `path` from byte `start` on, following it as it grows. */
  followFile(path: string, options: HashOptions & { readonly start: number }): FileHash
  hashStream(options: HashOptions): StreamHash
}

export type HashRequest =
  | { type: 'open'; id: number; path?: string; start: number; options: HashOptions }
  | { type: 'advance'; id: number; end: number }
  | { type: 'write'; id: number; bytes: Uint8Array }
  | { type: 'save'; id: number }
  | { type: 'finish'; id: number; end: number }
  | { type: 'close'; id: number }

export type HashReply =
  | { type: 'wrote'; id: number }
  | { type: 'saved'; id: number; state: string | undefined }
  | { type: 'finished'; id: number; result: HashResult }
  | { type: 'failed'; id: number; error: unknown }
  | { type: 'closed'; id: number }

interface Job {
  readonly worker: Worker
  wrote(): void
  saved(state: string | undefined): void
  settle(outcome: HashReply & { type: 'finished' | 'failed' | 'closed' }): void
}

/** Writes not hashed yet that `StreamHash.write` allows before it waits. */
const writesInFlight = 8

/**
 * Threads that compute digests. A digest is one thread's work from start to end, so one transfer
 * uses one thread and several transfers share the pool. Threads start with the first use.
 */
export function createHashPool({ threads = Math.min(4, availableParallelism()) } = {}): HashPool {
  const workers: Worker[] = []
  const jobs = new Map<number, Job>()
  let nextId = 0

  function fail(worker: Worker, error: unknown): void {
    const at = workers.indexOf(worker)
    if (at >= 0) workers.splice(at, 1)
    for (const [id, job] of jobs)
      if (job.worker === worker) job.settle({ type: 'failed', id, error })
  }

  function startWorker(): Worker {
    const worker = new Worker(workerUrl('hash-worker', import.meta.url))
    worker.unref()
    worker.on('message', (reply: HashReply) => {
      const job = jobs.get(reply.id)
      if (reply.type === 'wrote') job?.wrote()
      else if (reply.type === 'saved') job?.saved(reply.state)
      else job?.settle(reply)
    })
    worker.on('error', (error) => fail(worker, error))
    worker.on('exit', (code) => fail(worker, new Error(`hash thread ended with code ${code}`)))
    workers.push(worker)
    return worker
  }

  function pickWorker(): Worker {
    const loads = new Map(workers.map((worker) => [worker, 0]))
    for (const { worker } of jobs.values()) loads.set(worker, (loads.get(worker) ?? 0) + 1)
    const [least] = [...loads].sort(([, a], [, b]) => a - b)
    if (least && (least[1] === 0 || workers.length >= threads)) return least[0]
    return startWorker()
  }

  function open(path: string | undefined, start: number, options: HashOptions) {
    const worker = pickWorker()
    const id = nextId++
    const post = (request: HashRequest): void => worker.postMessage(request)
    const { promise, resolve, reject } = Promise.withResolvers<HashResult>()
    // A failure is reported by finish() or the next write(); it must not crash the process before.
    promise.catch(() => {})
    const ended = Promise.withResolvers<void>()
    let unhashed = 0
    let wake: (() => void) | undefined
    let saving = Promise.withResolvers<string | undefined>()
    const job: Job = {
      worker,
      wrote() {
        unhashed--
        wake?.()
      },
      saved: (state) => saving.resolve(state),
      settle(outcome) {
        if (!jobs.delete(id)) return
        if (![...jobs.values()].some((other) => other.worker === worker)) worker.unref()
        if (outcome.type === 'finished') resolve(outcome.result)
        else
          reject(outcome.type === 'failed' ? outcome.error : new Error('the digest was given up'))
        ended.resolve()
        saving.resolve(undefined)
        wake?.()
      },
    }
    jobs.set(id, job)
    worker.ref()
    post({ type: 'open', id, start, options, ...(path === undefined ? {} : { path }) })
    return {
      advance: (end: number) => post({ type: 'advance', id, end }),
      async write(chunk: Uint8Array): Promise<void> {
        while (jobs.has(id) && unhashed >= writesInFlight) {
          await new Promise<void>((awake) => (wake = awake))
        }
        if (!jobs.has(id)) await promise
        unhashed++
        // A message copies all the memory behind a chunk, and shares it where it is shared memory.
        const bytes = Uint8Array.from(chunk)
        worker.postMessage({ type: 'write', id, bytes } satisfies HashRequest, [bytes.buffer])
      },
      finish(end: number): Promise<HashResult> {
        post({ type: 'finish', id, end })
        return promise
      },
      save(): Promise<string | undefined> {
        saving = Promise.withResolvers()
        if (jobs.has(id)) post({ type: 'save', id })
        else saving.resolve(undefined)
        return saving.promise
      },
      giveUp(): Promise<void> {
        if (jobs.has(id)) post({ type: 'close', id })
        return ended.promise
      },
    }
  }

  return {
    followFile: (path, { start, ...options }) => {
      const { advance, finish, giveUp } = open(path, start, options)
      return { advance, finish, [Symbol.asyncDispose]: giveUp }
    },
    hashStream: (options) => {
      const hash = open(undefined, 0, options)
      return {
        write: hash.write,
        save: hash.save,
        finish: () => hash.finish(0),
        [Symbol.dispose]: () => void hash.giveUp(),
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(workers.splice(0).map((worker) => worker.terminate()))
    },
  }
}
