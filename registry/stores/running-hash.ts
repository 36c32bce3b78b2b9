import { createBlobHash } from '../../core/blob-hash.ts'
import type { HashOptions, HashResult } from '../../core/hash-pool.ts'

/** A digest that follows bytes in the order in which they are added, in Node's thread pool. */
export interface RunningHash {
  /** `bytes` must stay as they are until a `state` asked for later has resolved. */
  add(bytes: Uint8Array): void
  /**
   * All bytes added so far are hashed; what to go on from, where this platform has that and the
   * hash is not finished.
   */
  state(): Promise<string | undefined>
  /** Nothing is added after it. */
  finish(): Promise<HashResult>
}

/** Goes on from a saved state; `undefined` where that cannot be. */
export function createRunningHash(options: HashOptions, from?: string): RunningHash | undefined {
  const hash = createBlobHash(options, from)
  if (!hash) return undefined
  let hashed: Promise<unknown> = Promise.resolve()
  let result: Promise<HashResult> | undefined

  function next<T>(step: () => T | Promise<T>): Promise<T> {
    const done = hashed.then(step)
    // A failure is that of every later step too, and reported there.
    done.catch(() => {})
    hashed = done
    return done
  }

  return {
    add: (bytes) => void next(() => hash.updateAside(bytes)),
    state: () => next(() => (result ? undefined : hash.save())),
    finish: () => (result ??= next(() => hash.finish())),
  }
}
