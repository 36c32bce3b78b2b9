import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { workerUrl } from './worker-url.ts'

/** Bytes covered by one chunk digest (`docs/stored-image.md`). */
export const chunkBytes = 4 * 1024 * 1024

export type HashAlgorithm = 'md5' | 'sha1' | 'sha256' | 'sha512'

export interface HashOptions {
  /** Default sha256. */
  readonly algorithm?: HashAlgorithm
  /** Also hash every 4 MiB. */
  readonly chunkDigests?: boolean
}

export interface HashResult {
  /** Lower-case hex. */
  readonly hex: string
  /** 32 bytes per 4 MiB; empty unless asked for. */
  readonly chunkDigests: Uint8Array
}

/** The digest of a file that another thread computes while this one still writes it. */
export interface FileHash extends Disposable {
  /** The file now holds the bytes up to `end` (exclusive, from the file's start). Never blocks. */
  advance(end: number): void
  /** Resolves once the bytes up to `position` are hashed, or the hash has failed. */
  reached(position: number): Promise<void>
  /**
   * The state (`core/resumable-hash.ts`) after exactly `end`, while the thread goes on; asked for
   * before `advance` goes beyond `end`. `undefined` where the platform or algorithm has no states.
   */
  checkpoint(end: number): Promise<string | undefined>
  /** Hashes up to `end` and resolves; rejects where the file cannot be read that far. */
  finish(end: number): Promise<HashResult>
}

/** The digest of a stream of chunks, computed on another thread. */
export interface StreamHash extends Disposable {
  /** Takes a copy of `chunk`; waits while more than a few MiB are not hashed yet. */
  write(chunk: Uint8Array): Promise<void>
  finish(): Promise<HashResult>
}

export interface FollowOptions extends HashOptions {
  readonly start: number
  /** Goes on after `end` with this state of the bytes from `start`; where it is of no use, reads them. */
  readonly from?: HashPosition | undefined
}

interface HashPosition {
  readonly end: number
  readonly state: string
}

export interface HashPool extends AsyncDisposable {
  /** Hashes the file at `path` from byte `start` on, following it as it grows. */
  followFile(path: string, options: FollowOptions): FileHash
  hashStream(options: HashOptions): StreamHash
}

type HashStart = Pick<FollowOptions, 'start' | 'from'>

export type HashRequest =
  | ({ type: 'open'; id: number; path?: string; options: HashOptions } & HashStart)
  | { type: 'advance'; id: number; end: number }
  | { type: 'checkpoint'; id: number; end: number }
  | { type: 'write'; id: number; bytes: Uint8Array }
  | { type: 'finish'; id: number; end: number }
  | { type: 'close'; id: number }

export type HashReply =
  | { type: 'wrote'; id: number }
  | { type: 'hashed'; id: number; position: number }
  | { type: 'state'; id: number; end: number; state: string | undefined }
  | { type: 'finished'; id: number; result: HashResult }
  | { type: 'failed'; id: number; error: unknown }

interface Job {
  readonly worker: Worker
  wrote(): void
  hashed(position: number): void
  state(end: number, state: string | undefined): void
  settle(outcome: { result: HashResult } | { error: unknown }): void
}

/** A thread says how far it is at least every so many bytes. */
export const hashReportBytes = 4 * 1024 * 1024

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
    for (const job of jobs.values()) if (job.worker === worker) job.settle({ error })
  }

  function startWorker(): Worker {
    const worker = new Worker(workerUrl('hash-worker', import.meta.url))
    worker.unref()
    worker.on('message', (reply: HashReply) => {
      const job = jobs.get(reply.id)
      switch (reply.type) {
        case 'wrote':
          return job?.wrote()
        case 'hashed':
          return job?.hashed(reply.position)
        case 'state':
          return job?.state(reply.end, reply.state)
        case 'finished':
          return job?.settle({ result: reply.result })
        case 'failed':
          return job?.settle({ error: reply.error })
      }
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

  function open(path: string | undefined, { start, from }: HashStart, options: HashOptions) {
    const worker = pickWorker()
    const id = nextId++
    const post = (request: HashRequest): void => worker.postMessage(request)
    const { promise, resolve, reject } = Promise.withResolvers<HashResult>()
    // A failure is reported by finish() or the next write(); it must not crash the process before.
    promise.catch(() => {})
    const states = new Map<number, (state: string | undefined) => void>()
    const progress = createProgress()
    let unhashed = 0
    const job: Job = {
      worker,
      wrote() {
        unhashed--
        progress.wake()
      },
      hashed: (position) => progress.moveTo(position),
      state(end, state) {
        states.get(end)?.(state)
        states.delete(end)
      },
      settle(outcome) {
        if (!jobs.delete(id)) return
        if (![...jobs.values()].some((other) => other.worker === worker)) worker.unref()
        if ('result' in outcome) resolve(outcome.result)
        else reject(outcome.error)
        for (const answer of states.values()) answer(undefined)
        progress.moveTo(Infinity)
      },
    }
    jobs.set(id, job)
    worker.ref()
    post({ type: 'open', id, start, from, options, ...(path === undefined ? {} : { path }) })
    return {
      advance: (end: number) => post({ type: 'advance', id, end }),
      reached: (position: number) => progress.reached(() => progress.position >= position),
      async checkpoint(end: number): Promise<string | undefined> {
        if (!jobs.has(id)) return undefined
        post({ type: 'checkpoint', id, end })
        return new Promise((answer) => states.set(end, answer))
      },
      async write(chunk: Uint8Array): Promise<void> {
        await progress.reached(() => !jobs.has(id) || unhashed < writesInFlight)
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
      [Symbol.dispose](): void {
        if (!jobs.has(id)) return
        post({ type: 'close', id })
        job.settle({ error: new Error('the digest was given up') })
      },
    }
  }

  return {
    followFile: (path, { start, from, ...options }) => open(path, { start, from }, options),
    hashStream: (options) => {
      const hash = open(undefined, { start: 0 }, options)
      return {
        write: hash.write,
        finish: () => hash.finish(0),
        [Symbol.dispose]: hash[Symbol.dispose],
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(workers.splice(0).map((worker) => worker.terminate()))
    },
  }
}

/** How far a hash is, and who waits for it to go on. */
function createProgress() {
  const waiting = new Set<() => void>()
  const progress = {
    position: 0,
    moveTo(position: number): void {
      progress.position = position
      progress.wake()
    },
    wake(): void {
      for (const check of waiting) check()
    },
    async reached(isReached: () => boolean): Promise<void> {
      if (isReached()) return
      await new Promise<void>((resolve) => {
        const check = (): void => {
          if (!isReached()) return
          waiting.delete(check)
          resolve()
        }
        waiting.add(check)
      })
    },
  }
  return progress
}
