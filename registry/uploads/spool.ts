import { bufferBytes, sharedBuffers } from '../buffers.ts'

/** After so many bytes storage is asked to make them durable while more arrive. */
const syncEveryBytes = 24 * 1024 * 1024
/** With so many bytes not durable writing waits: a commit, or a crash, never has more to make good. */
const mostUnsyncedBytes = 48 * 1024 * 1024

/** Writes that wait, so that the file has its next one at once and the source need not stop. */
const mostQueued = 2

/** What a spool writes to. */
export interface SpooledFile {
  write(position: number, bytes: Uint8Array): Promise<void>
  sync(): Promise<void>
}

export interface SpoolOptions {
  readonly start: number
  /**
   * The file is filled up to `end` and about to be made durable; the answer is called when it is.
   * One at a time; writing waits for one that takes long.
   */
  readonly onSync: (end: number) => () => Promise<void>
}

/** Collects small chunks into large writes at the end of a file. One call at a time. */
export interface Spool {
  /** Position in the file behind the last byte taken. */
  readonly end: number
  /** Takes a copy of `chunk` or has written it when it resolves. */
  write(chunk: Uint8Array): Promise<void>
  /** Everything taken is in the file. */
  flush(): Promise<void>
  /** Everything taken is durable. */
  sync(): Promise<void>
  /** Takes nothing more before the next call; waits for what is at work, successful or not. */
  settle(): Promise<void>
  /** Forgets what was taken from `end` on and every failure; the file is cut by the caller. */
  rollback(end: number): Promise<void>
}

export function createSpool(file: SpooledFile, { start, onSync }: SpoolOptions): Spool {
  let end = start
  let filling: Buffer | undefined
  let filled = 0
  /** Ends with the last of the writes below. */
  let writing = Promise.resolve()
  /** Writes not done yet, each behind the one before. */
  const queue: Promise<void>[] = []
  let synced = start
  let syncing: Promise<void> | undefined
  let failure: { readonly error: unknown } | undefined

  async function put(position: number, bytes: Uint8Array): Promise<void> {
    await file.write(position, bytes)
    const filledTo = position + bytes.length
    if (!syncing && filledTo - synced >= syncEveryBytes) syncing = startSync(filledTo)
    while (filledTo - synced > mostUnsyncedBytes) {
      syncing ??= startSync(filledTo)
      await syncing
    }
  }

  async function syncTo(covered: number): Promise<void> {
    const report = onSync(covered)
    await file.sync()
    await report()
    synced = covered
    syncing = undefined
  }

  function startSync(covered: number): Promise<void> {
    const running = syncTo(covered)
    // Whatever is asked next is refused with it, also where nothing waits for this sync.
    running.catch((error: unknown) => (failure = { error }))
    return running
  }

  /** Hands the collected bytes to a write that goes on in the background. */
  async function handOver(): Promise<void> {
    const buffer = filling
    if (!buffer) return
    const bytes = buffer.subarray(0, filled)
    const position = end - filled
    if (queue.length >= mostQueued) await queue[0]
    filling = undefined
    filled = 0
    const before = writing
    const write = async (): Promise<void> => {
      try {
        await before
        await put(position, bytes)
      } finally {
        sharedBuffers.giveBack(buffer)
        void queue.shift()
      }
    }
    writing = write()
    queue.push(writing)
    // Reported by the next call.
    writing.catch(() => {})
  }

  async function flush(): Promise<void> {
    await handOver()
    await writing
  }

  async function settle(): Promise<void> {
    await Promise.allSettled([writing])
    await Promise.allSettled([syncing])
    if (filling) sharedBuffers.giveBack(filling)
    filling = undefined
    filled = 0
  }

  return {
    get end() {
      return end
    },
    async write(chunk) {
      if (failure) throw failure.error
      let rest = chunk
      while (rest.length > 0) {
        if (!filling && rest.length >= bufferBytes) {
          await writing
          await put(end, rest)
          end += rest.length
          return
        }
        filling ??= sharedBuffers.take()
        const part = rest.subarray(0, bufferBytes - filled)
        filling.set(part, filled)
        filled += part.length
        end += part.length
        rest = rest.subarray(part.length)
        if (filled === bufferBytes) await handOver()
      }
    },
    flush,
    async sync() {
      await flush()
      await syncing
      await file.sync()
      synced = end
    },
    settle,
    async rollback(to) {
      await settle()
      writing = Promise.resolve()
      syncing = undefined
      failure = undefined
      synced = to
      end = to
    },
  }
}
