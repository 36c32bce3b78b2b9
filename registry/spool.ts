import { bufferBytes, returnBuffer, takeBuffer } from './buffers.ts'
import type { DataFile } from './data-store.ts'

/** After so many bytes storage is asked to make them durable while more arrive. */
const syncEveryBytes = 64 * 1024 * 1024
/** With so many bytes not durable, writing waits: a commit never has more left to do. */
const mostUnsyncedBytes = 256 * 1024 * 1024

/** Collects small chunks into large writes at the end of a data file. One call at a time. */
export interface Spool {
  /** Position in the file behind the last byte taken. */
  readonly end: number
  /** Takes a copy of `chunk` or has written it when it resolves. */
  write(chunk: Uint8Array): Promise<void>
  /** Everything taken is in the file. */
  flush(): Promise<void>
  /** Everything taken is durable. */
  sync(): Promise<void>
  /** Forgets what was taken from `end` on, also after a failed write. */
  rollback(end: number): Promise<void>
  /** Nothing more is taken; waits for what is being written, whether or not it succeeds. */
  release(): Promise<void>
}

/** Writes from `start` on; `onWritten` hears the position up to which the file is filled. */
export function createSpool(
  file: DataFile,
  { start, onWritten }: { readonly start: number; readonly onWritten: (end: number) => void },
): Spool {
  let end = start
  let filling: Buffer | undefined
  let filled = 0
  let writing = Promise.resolve()
  let unsynced = 0
  let syncing: Promise<void> | undefined

  async function put(position: number, bytes: Uint8Array): Promise<void> {
    await file.write(position, bytes)
    onWritten(position + bytes.length)
    unsynced += bytes.length
    if (unsynced >= mostUnsyncedBytes) await syncing
    if (unsynced >= syncEveryBytes && !syncing) startSync()
  }

  async function syncWritten(covered: number): Promise<void> {
    await file.sync()
    unsynced -= covered
    syncing = undefined
  }

  function startSync(): void {
    syncing = syncWritten(unsynced)
    // Reported by whoever waits for it next.
    syncing.catch(() => {})
  }

  /** Hands the collected bytes to a write that goes on in the background. */
  async function handOver(): Promise<void> {
    const buffer = filling
    if (!buffer) return
    const bytes = buffer.subarray(0, filled)
    const position = end - filled
    await writing
    filling = undefined
    filled = 0
    writing = put(position, bytes).finally(() => returnBuffer(buffer))
    // Reported by the next call.
    writing.catch(() => {})
  }

  async function flush(): Promise<void> {
    await handOver()
    await writing
  }

  /** What failed is forgotten with the bytes it failed on. */
  async function release(): Promise<void> {
    await Promise.allSettled([writing, syncing])
    if (filling) returnBuffer(filling)
    filling = undefined
    filled = 0
  }

  return {
    get end() {
      return end
    },
    async write(chunk) {
      let rest = chunk
      while (rest.length > 0) {
        if (!filling && rest.length >= bufferBytes) {
          await writing
          await put(end, rest)
          end += rest.length
          return
        }
        filling ??= takeBuffer()
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
      unsynced = 0
    },
    async rollback(to) {
      await release()
      writing = Promise.resolve()
      syncing = undefined
      unsynced = 0
      await file.truncate(to)
      end = to
    },
    release,
  }
}
