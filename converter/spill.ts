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
