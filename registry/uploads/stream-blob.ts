import { parseDigest, type DigestAlgorithm } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { BlobWriter, CreateBlobOptions, WrittenBlob } from '../../core/registry.ts'
import { createRoom } from './room.ts'
import { begin, keepAlive, type SessionParts, type Sessions } from './sessions.ts'

export interface CreateStreamBlobOptions extends CreateBlobOptions {
  /** Of the digest that it will have; sha256 unless said. */
  readonly algorithm?: DigestAlgorithm
}

/** A blob that goes to its place while it is written, from the first byte on. */
export async function createStreamBlob(
  name: string,
  { signal, expectedBytes, chunkDigests = false, algorithm = 'sha256' }: CreateStreamBlobOptions,
  {
    sessions,
    data,
    reservations,
  }: Pick<SessionParts, 'data' | 'reservations'> & { readonly sessions: Sessions },
): Promise<BlobWriter> {
  const session = await sessions.create({ repo: name, owner: 'import', algorithm })
  const room = createRoom(session, reservations)
  const writer = await begin(session, async () => {
    await room.expect(expectedBytes ?? 0)
    return data.write(session.record.data, {
      expectedBytes,
      algorithm,
      chunkDigests,
      record: (checkpoint) => session.save({ checkpoint }),
    })
  })
  const alive = keepAlive(session)
  let written: WrittenBlob | undefined
  let ended = false

  async function close(): Promise<void> {
    ended = true
    alive[Symbol.dispose]()
    await writer[Symbol.asyncDispose]()
  }

  const misuse = (method: string): CodedError =>
    new CodedError('UNKNOWN', `${method} needs readBack or reserveBytes, or finish before it`)

  return {
    async write(chunk) {
      signal.throwIfAborted()
      await room.hold(writer.end + chunk.length)
      await writer.write(chunk)
    },
    prepend: () => Promise.reject(misuse('prepend')),
    readAt: () => Promise.reject(misuse('readAt')),
    file: () => undefined,
    async finish() {
      signal.throwIfAborted()
      const result = await writer.digest()
      const digest = parseDigest(`${algorithm}:${result.hex}`)
      const { chunkDigests: chunks } = result
      written = { digest, size: writer.end, chunkDigests: chunks, scratchBytes: 0 }
      return written
    },
    async commit() {
      if (!written) throw misuse('commit')
      signal.throwIfAborted()
      const { digest, size } = written
      const checkpoint = await writer.finish(digest)
      await session.save({ state: 'committing', checkpoint, blob: { digest, offset: 0, size } })
      await session.commit()
      await close()
    },
    async abort() {
      if (ended) return
      await close()
      // A commit that failed half-way is taken up by the sweep.
      if (session.record.state === 'open') await session.discard()
    },
  }
}
