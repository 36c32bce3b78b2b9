import { randomUUID } from 'node:crypto'
import { open, unlink, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { parseDigest, type Digest } from './digest.ts'
import { CodedError, hasErrno } from './errors.ts'
import type { HashPool } from './hash-pool.ts'
import type { BlobWriter, CreateBlobOptions } from './registry.ts'

const readBytes = 1024 * 1024

export interface ScratchBlobDeps {
  readonly hashPool: HashPool
  readonly scratchFolder: string
  /** Sends the finished blob where it belongs; rejected, it may be asked again. */
  readonly send: (blob: FinishedScratch) => Promise<void>
}

export interface FinishedScratch {
  readonly digest: Digest
  readonly size: number
  /** The bytes of `[from, to)`, all of them unless said; each chunk has memory of its own. */
  contents(from?: number, to?: number): AsyncIterable<Uint8Array>
}

/**
 * A blob kept in a file beside the store until it is complete: for storage that is only written in
 * order, or is far away. `commit` sends it.
 */
export async function createScratchBlob(
  { reserveBytes = 0, chunkDigests = false, onPush = () => {} }: CreateBlobOptions,
  { hashPool, scratchFolder, send }: ScratchBlobDeps,
): Promise<BlobWriter> {
  const path = join(scratchFolder, `dvcr-${randomUUID()}.blob`)
  const file = await open(path, 'wx+')
  let start = reserveBytes
  let end = reserveBytes
  let finished: FinishedScratch | undefined

  async function* contents(from = 0, to = Infinity): AsyncGenerator<Uint8Array, void> {
    const stop = Math.min(end, start + to)
    // One buffer a turn: the socket may still hold the one before.
    for (let at = start + from; at < stop; at += readBytes) {
      const chunk = Buffer.allocUnsafe(Math.min(readBytes, stop - at))
      await readFully(file, chunk, at)
      yield chunk
      onPush(at + chunk.length - start, end - start)
    }
  }

  async function forget(): Promise<void> {
    await file.close()
    await unlink(path).catch((error: unknown) => {
      // An abort after the end finds nothing.
      if (!hasErrno(error, 'ENOENT')) throw error
    })
  }

  return {
    async write(chunk) {
      await writeFully(file, chunk, end)
      end += chunk.length
    },
    async prepend(size, head) {
      start = reserveBytes - size
      let at = start
      for await (const chunk of head) {
        await writeFully(file, chunk, at)
        at += chunk.length
      }
    },
    async readAt(offset, length) {
      const at = reserveBytes + offset
      const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, end - at)))
      await readFully(file, bytes, at)
      return bytes
    },
    file: () => ({ path, start }),
    async finish() {
      await using hash = hashPool.followFile(path, { start, chunkDigests })
      const result = await hash.finish(end)
      const digest = parseDigest(`sha256:${result.hex}`)
      const size = end - start
      finished = { digest, size, contents }
      return { digest, size, scratchBytes: size, chunkDigests: result.chunkDigests }
    },
    async commit() {
      if (!finished) throw new CodedError('UNKNOWN', 'commit needs finish before it')
      await send(finished)
      await forget()
    },
    abort: () => forget(),
  }
}

/** A disk that fills up takes a part first and refuses the rest. */
async function writeFully(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done)
    done += bytesWritten
  }
}

async function readFully(file: FileHandle, into: Uint8Array, at: number): Promise<void> {
  for (let filled = 0; filled < into.length;) {
    const { bytesRead } = await file.read(into, filled, into.length - filled, at + filled)
    if (bytesRead === 0) throw new Error(`the scratch file ends at ${at + filled}`)
    filled += bytesRead
  }
}
