import { parseDigest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import type { FileHash } from '../core/hash-pool.ts'
import type { BlobWriter, CreateBlobOptions, WrittenBlob } from '../core/registry.ts'
import { keys } from './keys.ts'
import { requireRoom, type SessionParts, type Sessions } from './sessions.ts'
import { createSpool } from './spool.ts'

/**
 * A blob written by this process. What a crash leaves of it is removed at the next start.
 * Throws STORAGE_FULL before the start where `expectedBytes` would not fit.
 */
export async function createBlobWriter(
  name: string,
  options: CreateBlobOptions,
  { sessions, data }: Pick<SessionParts, 'data'> & { readonly sessions: Sessions },
): Promise<BlobWriter> {
  const { signal, reserveBytes = 0, expectedBytes = 0, chunkDigests = false } = options
  signal.throwIfAborted()
  await requireRoom(data, expectedBytes)
  const { id, session } = await sessions.create({
    repo: name,
    owner: 'import',
    reserve: reserveBytes,
  })
  const file = await data.openForWrite(keys.data(session.data))
  let hash: FileHash | undefined
  let offset = reserveBytes
  let written: WrittenBlob | undefined
  let ended = false

  const spool = createSpool(file, {
    start: reserveBytes,
    onWritten: (end) => hash?.advance(end),
  })
  const startHash = (): FileHash => {
    const started = file.follow({ start: offset, chunkDigests })
    hash = started
    return started
  }
  // With room kept free the first byte may come last: hashing then waits for `finish`.
  if (reserveBytes === 0) startHash()

  async function close(): Promise<void> {
    ended = true
    hash?.[Symbol.dispose]()
    await spool.release()
    await file[Symbol.asyncDispose]()
  }

  return {
    async write(chunk) {
      signal.throwIfAborted()
      await spool.write(chunk)
    },
    async prepend(size, head) {
      if (offset !== reserveBytes || size > reserveBytes) {
        throw new CodedError(
          'SIZE_INVALID',
          `cannot put ${size} bytes before a blob with room for ${offset}`,
        )
      }
      let position = reserveBytes - size
      for await (const chunk of head) {
        signal.throwIfAborted()
        if (position + chunk.length > reserveBytes) break
        await file.write(position, chunk)
        position += chunk.length
      }
      if (position !== reserveBytes) {
        throw new CodedError('SIZE_INVALID', `the head of a blob is not the ${size} bytes it said`)
      }
      offset = reserveBytes - size
    },
    async readAt(at, length) {
      await spool.flush()
      const buffer = new Uint8Array(length)
      const got = await file.read(reserveBytes + at, buffer)
      return buffer.subarray(0, got)
    },
    async finish() {
      signal.throwIfAborted()
      await spool.flush()
      const running = hash ?? startHash()
      const stop = (): void => running[Symbol.dispose]()
      signal.addEventListener('abort', stop, { once: true })
      try {
        const result = await running.finish(spool.end)
        const digest = parseDigest(`sha256:${result.hex}`)
        const { chunkDigests } = result
        // The blob's own file is the spool: nothing is stored twice.
        const blob = { digest, size: spool.end - offset, chunkDigests, scratchBytes: 0 }
        written = blob
        return blob
      } catch (error) {
        signal.throwIfAborted()
        throw error
      } finally {
        signal.removeEventListener('abort', stop)
      }
    },
    async commit() {
      if (!written) throw new CodedError('BLOB_UPLOAD_INVALID', 'a blob is committed after finish')
      signal.throwIfAborted()
      await spool.sync()
      const { digest, size } = written
      const committing = { ...session, committing: digest }
      await sessions.save(id, committing)
      await sessions.commit(id, committing, { offset, size })
      await close()
    },
    async abort() {
      if (ended) return
      await close()
      await sessions.discard(id)
    },
  }
}
