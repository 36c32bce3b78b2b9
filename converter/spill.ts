import { randomUUID } from 'node:crypto'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'

/** Bytes written once in order and read back, on disk where they outgrow their memory. */
export interface Spill extends AsyncDisposable {
  readonly size: number
  /** Takes a copy of `bytes`. */
  append(bytes: Uint8Array): Promise<void>
  /** All bytes from the start, as often as asked; chunks may be changed by the reader. */
  read(): AsyncGenerator<Uint8Array, void>
  /** Fills `into` with what was appended from position `at` on. */
  readAt(at: number, into: Uint8Array): Promise<void>
}

const readBytes = 1024 * 1024

/**
 * Keeps up to `memoryBytes`, then moves to a file in `folder`, which has no name from its first
 * moment on: whatever ends the process, nothing of it stays behind.
 */
export function createSpill(options: {
  readonly folder: string
  readonly memoryBytes: number
}): Spill {
  let kept: Buffer[] = []
  let keptBytes = 0
  let size = 0
  let file: FileHandle | undefined

  async function flush(): Promise<void> {
    file ??= await openUnnamed(options.folder)
    await writeAll(file, Buffer.concat(kept), size - keptBytes)
    kept = []
    keptBytes = 0
  }

  return {
    get size() {
      return size
    },
    async append(bytes) {
      kept.push(Buffer.from(bytes))
      keptBytes += bytes.length
      size += bytes.length
      if (keptBytes > (file ? Math.min(readBytes, options.memoryBytes) : options.memoryBytes)) {
        await flush()
      }
    },
    async *read() {
      const filed = size - keptBytes
      for (let at = 0; file && at < filed;) {
        const piece = Buffer.allocUnsafe(Math.min(readBytes, filed - at))
        const { bytesRead } = await file.read(piece, 0, piece.length, at)
        if (bytesRead === 0) throw new Error(`the spill file ends at ${at}, before ${filed}`)
        yield piece.subarray(0, bytesRead)
        at += bytesRead
      }
      for (const bytes of kept) yield Buffer.from(bytes)
    },
    async readAt(at, into) {
      const filed = size - keptBytes
      let done = 0
      while (file && done < into.length && at + done < filed) {
        const length = Math.min(into.length - done, filed - at - done)
        const { bytesRead } = await file.read(into, done, length, at + done)
        if (bytesRead === 0) throw new Error(`the spill file ends at ${at + done}, before ${filed}`)
        done += bytesRead
      }
      let start = filed
      for (const bytes of kept) {
        const from = at + done - start
        if (from >= 0 && from < bytes.length && done < into.length) {
          const part = bytes.subarray(from, from + into.length - done)
          into.set(part, done)
          done += part.length
        }
        start += bytes.length
      }
    },
    async [Symbol.asyncDispose]() {
      kept = []
      keptBytes = 0
      size = 0
      await file?.close()
      file = undefined
    },
  }
}

async function openUnnamed(folder: string): Promise<FileHandle> {
  const path = join(folder, `dvcr-spill-${randomUUID()}`)
  const file = await open(path, 'wx+', 0o600)
  await unlink(path)
  return file
}

async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const rest = bytes.subarray(done)
    const { bytesWritten } = await file.write(rest, 0, rest.length, offset + done)
    done += bytesWritten
  }
}
