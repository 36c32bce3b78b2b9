import { z } from 'zod'
import { parseDigest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { FileHash } from '../../core/hash-pool.ts'
import type { BlobWriter, CreateBlobOptions, WrittenBlob } from '../../core/registry.ts'
import type { DataFile, DataFiles } from '../data-store.ts'
import { createRoom, requireRoom } from './room.ts'
import {
  begin,
  keepAlive,
  unknownUpload,
  type OpenSession,
  type SessionParts,
  type Sessions,
} from './sessions.ts'
import { createSpool } from './spool.ts'

interface FileBlobParts extends Pick<SessionParts, 'reservations' | 'data'> {
  readonly sessions: Sessions
  readonly files: DataFiles
}

/** A blob written into its own file, also before what was written first, and read back from it. */
export async function createFileBlob(
  name: string,
  options: CreateBlobOptions,
  parts: FileBlobParts,
): Promise<BlobWriter> {
  const { signal, reserveBytes = 0, expectedBytes = 0, chunkDigests = false, resume } = options
  const { data, reservations } = parts
  if (resume === undefined) await requireRoom(data, expectedBytes)
  const { session, file, end } =
    resume === undefined
      ? await create(name, reserveBytes, parts)
      : await reopen(name, reserveBytes, resume, parts)
  const room = createRoom(session, reservations)
  await begin(session, async () => {
    // What is kept of it has its room.
    await requireRoom(data, expectedBytes - (end - reserveBytes))
    await room.expect(expectedBytes)
  }).catch(async (error: unknown) => {
    await file[Symbol.asyncDispose]()
    throw error
  })
  const alive = keepAlive(session)
  let hash: FileHash | undefined
  let offset = reserveBytes
  let written: WrittenBlob | undefined
  let ended = false

  const spool = createSpool(
    {
      async write(position, bytes) {
        await file.write(position, bytes)
        hash?.advance(position + bytes.length)
      },
      sync: () => file.sync(),
    },
    { start: end, onSync: () => async () => {} },
  )
  const startHash = (): FileHash => {
    const started = file.follow({ start: offset, chunkDigests })
    started.advance(end)
    hash = started
    return started
  }
  // With room kept free the first byte may come last: hashing then waits for `finish`.
  if (reserveBytes === 0) startHash()

  async function close(): Promise<void> {
    ended = true
    alive[Symbol.dispose]()
    await hash?.[Symbol.asyncDispose]()
    await spool.settle()
    await file[Symbol.asyncDispose]()
  }

  return {
    async write(chunk) {
      signal.throwIfAborted()
      await room.hold(spool.end - reserveBytes + chunk.length)
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
    async checkpoint() {
      await spool.sync()
      if (!session.record.resumable) await session.save({ resumable: true })
      return encodeToken({ id: session.id, reserveBytes, end: spool.end })
    },
    file: () => ({ path: file.path, start: offset }),
    async finish() {
      signal.throwIfAborted()
      await spool.flush()
      const running = hash ?? startHash()
      const stop = (): void => void running[Symbol.asyncDispose]()
      signal.addEventListener('abort', stop, { once: true })
      try {
        const result = await running.finish(spool.end)
        const digest = parseDigest(`sha256:${result.hex}`)
        // The blob's own file is the spool: nothing is stored twice.
        written = {
          digest,
          size: spool.end - offset,
          chunkDigests: result.chunkDigests,
          scratchBytes: 0,
        }
        return written
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
      const checkpoint = { offset: spool.end }
      await session.save({ state: 'committing', checkpoint, blob: { digest, offset, size } })
      await session.commit()
      await close()
    },
    async abort({ keep = false } = {}) {
      if (ended) return
      await close()
      if (keep && session.record.resumable) return
      // A commit that failed half-way is taken up by the sweep.
      if (session.record.state === 'open') await session.discard()
    },
  }
}

interface Begun {
  readonly session: OpenSession
  readonly file: DataFile
  /** Position in the file behind the last byte that is there. */
  readonly end: number
}

async function create(
  repo: string,
  reserveBytes: number,
  { sessions, files }: FileBlobParts,
): Promise<Begun> {
  const session = await sessions.create({ repo, owner: 'import', algorithm: 'sha256' })
  const file = await begin(session, () => files.create(session.record.data))
  return { session, file, end: reserveBytes }
}

async function reopen(
  repo: string,
  reserveBytes: number,
  resume: string,
  { sessions, files }: FileBlobParts,
): Promise<Begun> {
  const token = decodeToken(resume)
  const session = token && (await sessions.open(token.id))
  if (!token || !session?.record.resumable || session.record.state !== 'open')
    throw unknownUpload(resume)
  const isSame = session.record.repo === repo && token.reserveBytes === reserveBytes
  if (!isSame) throw unknownUpload(resume)
  await session.takeOver()
  const file = await files.open(session.record.data, token.end)
  if (!file) throw unknownUpload(resume)
  return { session, file, end: token.end }
}

/** Removes what is kept for `resume`, if it is there. */
export async function forgetFileBlob(
  repo: string,
  resume: string,
  { sessions }: Pick<FileBlobParts, 'sessions'>,
): Promise<void> {
  const token = decodeToken(resume)
  const session = token && (await sessions.open(token.id))
  if (!session?.record.resumable || session.record.repo !== repo) return
  await session.takeOver().catch((error: unknown) => {
    // Only a folder is ever full, and that has one owner: what is to be removed can be.
    if (!(error instanceof CodedError) || error.code !== 'STORAGE_FULL') throw error
  })
  if (session.record.state === 'open') await session.discard()
}

/** Where a blob goes on: its session, the room before its first byte, and its durable bytes. */
const tokenSchema = z.object({ id: z.uuid(), reserveBytes: z.int(), end: z.int() })

const encodeToken = (token: z.output<typeof tokenSchema>): string => JSON.stringify(token)

function decodeToken(text: string): z.output<typeof tokenSchema> | undefined {
  try {
    return tokenSchema.parse(JSON.parse(text))
  } catch {
    // What follows says that there is no such upload.
    return undefined
  }
}
