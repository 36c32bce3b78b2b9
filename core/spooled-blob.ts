import { randomUUID } from 'node:crypto'
import { open, unlink, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { parseDigest, type Digest } from './digest.ts'
import { CodedError, hasErrno } from './errors.ts'
import type { BlobWriter, CreateBlobOptions } from './registry.ts'
import { retried } from './retry.ts'
import { endUpload, sendUpload, startUpload, type RemoteBlobDeps } from './upload-client.ts'

const readBytes = 1024 * 1024
/** A push from the scratch file can start again, so a registry that blinks does not cost the import. */
const retryDelaysMs = [1000, 5000]

/** Kept in a scratch file until `commit` sends it; a blob the registry has already is not sent. */
export async function createSpooledBlob(
  root: string,
  options: CreateBlobOptions,
  { http, hashPool, scratchFolder }: RemoteBlobDeps,
): Promise<BlobWriter> {
  const { signal, reserveBytes = 0, chunkDigests = false, onPush = () => {} } = options
  const path = join(scratchFolder, `dvcr-${randomUUID()}.blob`)
  const file = await open(path, 'wx+')
  let start = reserveBytes
  let end = reserveBytes
  let digest: Digest | undefined

  async function* contents(): AsyncGenerator<Uint8Array, void> {
    // One buffer a turn: the socket may still hold the one before.
    for (let at = start; at < end; at += readBytes) {
      const chunk = Buffer.allocUnsafe(Math.min(readBytes, end - at))
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

  async function push(wanted: Digest): Promise<void> {
    const known = await http.send(`${root}/blobs/${wanted}`, { method: 'HEAD', accept: [200, 404] })
    await known.body.dump()
    if (known.statusCode === 200) return
    const at = await sendUpload(await startUpload(root, http, signal), contents(), http, signal)
    await endUpload(at, wanted, http, signal)
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
    async finish() {
      using hash = hashPool.followFile(path, { start, chunkDigests })
      const result = await hash.finish(end)
      digest = parseDigest(`sha256:${result.hex}`)
      const size = end - start
      return { digest, size, scratchBytes: size, chunkDigests: result.chunkDigests }
    },
    async commit() {
      if (!digest) throw new CodedError('UNKNOWN', 'commit needs finish before it')
      const finished = digest
      await retried(() => push(finished), {
        delaysMs: retryDelaysMs,
        signal,
        shouldRetry: (error) => error instanceof CodedError && error.code === 'TARGET_UNAVAILABLE',
      })
      await forget()
    },
    abort: forget,
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
