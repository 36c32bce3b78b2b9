import { digestAlgorithm, type Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { Bytes } from '../../core/streams.ts'
import type { DataWriter } from '../data-store.ts'
import { createNewest, type Interruption } from './newest.ts'
import type { Pauses } from './pauses.ts'
import type { Checkpoint } from '../records.ts'
import { createRoom, requireRoom } from './room.ts'
import { takenOver, type OpenSession, type SessionChange, type SessionParts } from './sessions.ts'

export interface UploadBody {
  readonly bytes: Bytes
  /** The offset its sender believes it starts at, where it said so. */
  readonly at: number | undefined
  /** Storage is checked for so many bytes before the first is taken. */
  readonly expectedBytes: number
}

/**
 * A blob that a client sends in one or several requests, to any process of the store, across their
 * restarts. The newest request wins: one that is at work keeps what it has and ends with
 * RANGE_INVALID. All methods throw BLOB_UPLOAD_UNKNOWN once the session has ended.
 */
export interface Upload {
  readonly id: string
  /** Bytes acknowledged so far, as known here: they are durable. */
  readonly offset: number
  /** Learns what other processes have acknowledged. */
  refresh(): Promise<void>
  /**
   * Takes `body` and resolves when all of it is acknowledged. Throws RANGE_INVALID, taking
   * nothing, where `at` is not `offset`. Where the body breaks, what arrived is kept; where the
   * storage fails, what was recorded on the way is, and on a full one nothing of this body.
   */
  append(body: UploadBody): Promise<void>
  /**
   * Takes `last`, if any, and makes the blob readable; the session ends. Throws DIGEST_INVALID
   * where the bytes have another digest: the session is then as it was before.
   */
  commit(digest: Digest, last: UploadBody | undefined): Promise<void>
  /** Forgets the bytes; the session ends. */
  cancel(): Promise<void>
  /** Waits for the request at work and lets go of the data; the session stays. */
  release(): Promise<void>
}

export interface UploadParts extends Pick<SessionParts, 'data' | 'reservations'> {
  /** Of all uploads of this process. */
  readonly pauses: Pauses
  /** The session has ended, or its pause; it can be opened again. */
  readonly onUnused: () => void
}

const codeOf = (error: unknown) => (error instanceof CodedError ? error.code : undefined)

/** Goes on with the session as recorded. */
export function createUpload(session: OpenSession, parts: UploadParts): Upload {
  const { data, reservations, pauses, onUnused } = parts
  const { id } = session
  const room = createRoom(session, reservations)
  const newest = createNewest(() => takenOver(id))
  let writer: DataWriter | undefined
  /** What is recorded may be more than what is known here. */
  let unsure = false

  const offset = (): number => session.record.checkpoint.offset

  async function close(): Promise<void> {
    const open = writer
    writer = undefined
    await open?.[Symbol.asyncDispose]()
  }

  /** One request, as the one that goes on with the session. */
  function request<T>(action: (interruption: Interruption) => Promise<T>): Promise<T> {
    return newest.run(async (interruption) => {
      pauses.stop(id)
      try {
        const isOther = await session.takeOver()
        if (isOther || unsure) await close()
        unsure = false
        return await action(interruption)
      } catch (error) {
        if (codeOf(error) === 'BLOB_UPLOAD_UNKNOWN') await end()
        throw error
      } finally {
        startPause()
      }
    })
  }

  function startPause(): void {
    // What the data holds is acknowledged: failing to close it loses nothing, and going on opens it
    // at its checkpoint.
    pauses.start(id, () => void end().catch(() => {}))
  }

  async function end(): Promise<void> {
    onUnused()
    await close()
  }

  async function refresh(): Promise<void> {
    try {
      await session.refresh()
    } catch (error) {
      if (codeOf(error) === 'BLOB_UPLOAD_UNKNOWN') onUnused()
      throw error
    }
  }

  async function openWriter(expectedBytes: number): Promise<DataWriter> {
    const { data: uuid, algorithm, checkpoint } = session.record
    writer ??= await data.write(uuid, {
      from: checkpoint,
      expectedBytes: expectedBytes > 0 ? checkpoint.offset + expectedBytes : undefined,
      algorithm,
      record: (checkpoint) => save({ checkpoint }),
    })
    return writer
  }

  async function save(change: SessionChange): Promise<void> {
    try {
      await session.save(change)
    } catch (error) {
      // On full storage nothing was written; of any other failure nobody knows.
      if (codeOf(error) !== 'STORAGE_FULL') unsure = true
      throw error
    }
  }

  function requireOffset({ at }: UploadBody): void {
    if (at === undefined || at === offset()) return
    throw new CodedError(
      'RANGE_INVALID',
      `the upload has ${offset()} bytes, the request starts at ${at}; continue at ${offset()}`,
      { detail: { offset: offset() } },
    )
  }

  /** Bytes acknowledged stay so: what starts before them need not interrupt anybody. */
  async function refuseOld(body: UploadBody | undefined): Promise<void> {
    if (body?.at === undefined || body.at >= offset()) return
    await refresh()
    if (session.record.state === 'open') requireOffset(body)
  }

  function requireOpen(): void {
    const { state, blob } = session.record
    if (state === 'open') return
    throw new CodedError(
      'BLOB_UPLOAD_INVALID',
      `the upload is being committed as ${blob?.digest}; repeat that request`,
    )
  }

  /** A storage that fails keeps what is recorded; where room or digest fail nothing is of use. */
  async function guarded<T>(before: Checkpoint, action: () => Promise<T>): Promise<T> {
    try {
      return await action()
    } catch (error) {
      const isUseless = ['STORAGE_FULL', 'DENIED', 'DIGEST_INVALID'].includes(codeOf(error) ?? '')
      const to = isUseless ? before : session.record.checkpoint
      await rollback(to).catch(() => (unsure = true))
      throw error
    }
  }

  /** Where it is not known what is recorded, or this fails, the next request opens the data again. */
  async function rollback(to: Checkpoint): Promise<void> {
    if (unsure) return
    await writer?.rollback(to)
    if (offset() !== to.offset) await save({ checkpoint: to })
  }

  async function acknowledge(open: DataWriter): Promise<void> {
    const reached = await open.checkpoint()
    await save({ checkpoint: reached })
  }

  /** Takes the body; what it broke off with is told after what arrived is acknowledged. */
  async function receive(body: UploadBody, interruption: Interruption): Promise<DataWriter> {
    const before = session.record.checkpoint
    await requireRoom(data, body.expectedBytes)
    await room.expect(before.offset + body.expectedBytes)
    const open = await openWriter(body.expectedBytes)
    const chunks = body.bytes[Symbol.asyncIterator]()
    for (;;) {
      let next: IteratorResult<Uint8Array>
      try {
        next = await interruption.unless(chunks.next())
      } catch (error) {
        await guarded(before, () => acknowledge(open))
        throw brokenOff(error)
      }
      if (next.done === true) return open
      const chunk = next.value
      try {
        await guarded(before, async () => {
          await room.hold(open.end + chunk.length)
          await open.write(chunk)
        })
      } catch (error) {
        await chunks.return?.()
        throw error
      }
    }
  }

  function brokenOff(error: unknown): CodedError {
    const detail = { offset: offset() }
    if (error instanceof CodedError && error.code === 'RANGE_INVALID') {
      return new CodedError(error.code, error.message, { detail })
    }
    return new CodedError(
      'BLOB_UPLOAD_INVALID',
      `the request body broke off; ${offset()} bytes are kept, continue there`,
      { cause: error, detail },
    )
  }

  /** Takes the last body and records the digest once it is verified and all bytes are durable. */
  async function prepare(
    digest: Digest,
    last: UploadBody | undefined,
    interruption: Interruption,
  ): Promise<void> {
    const before = session.record.checkpoint
    if (last) requireOffset(last)
    const algorithm = digestAlgorithm(digest)
    if (before.offset === 0 && session.record.algorithm !== algorithm) {
      await close()
      await save({ algorithm })
    }
    const open = last ? await receive(last, interruption) : await openWriter(0)
    const checkpoint = await guarded(before, () => open.finish(digest))
    await save({
      state: 'committing',
      checkpoint,
      blob: { digest, offset: 0, size: checkpoint.offset },
    })
    await close()
  }

  startPause()
  return {
    id,
    get offset() {
      return offset()
    },
    refresh,
    async append(body) {
      await refuseOld(body)
      await request(async (interruption) => {
        requireOpen()
        requireOffset(body)
        const open = await receive(body, interruption)
        await guarded(session.record.checkpoint, () => acknowledge(open))
      })
    },
    async commit(digest, last) {
      await refuseOld(last)
      await request(async (interruption) => {
        if (session.record.blob?.digest !== digest) requireOpen()
        if (session.record.state === 'open') await prepare(digest, last, interruption)
        await session.commit()
        await end()
      })
    },
    cancel: () =>
      request(async () => {
        requireOpen()
        await close()
        await session.discard()
        await end()
      }),
    async release() {
      await newest.settled()
      pauses.stop(id)
      await close()
    },
  }
}
