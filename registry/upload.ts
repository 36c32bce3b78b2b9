import { digestAlgorithm, digestHex, type Digest, type DigestAlgorithm } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import type { FileHash } from '../core/hash-pool.ts'
import type { Bytes } from '../core/streams.ts'
import type { DataFile, DataStore } from './data-store.ts'
import { keys } from './keys.ts'
import type { Session } from './records.ts'
import { requireRoom, type Sessions } from './sessions.ts'
import { createSpool, type Spool } from './spool.ts'

export interface UploadBody {
  readonly bytes: Bytes
  /** The offset its sender believes it starts at, where it said so. */
  readonly at: number | undefined
  /** Storage is checked for so many bytes before the first is taken. */
  readonly expectedBytes: number
}

/**
 * A blob that a client sends in one or several requests, across restarts of either side. One
 * request at a time; a second one is refused with RANGE_INVALID.
 */
export interface Upload {
  readonly id: string
  /** Bytes acknowledged so far: they are durable. */
  readonly offset: number
  /**
   * Takes `body` and resolves when all of it is acknowledged. Throws RANGE_INVALID, taking
   * nothing, where `at` is not `offset`. Where the body breaks, what arrived is kept; where the
   * storage fails, what this call took is forgotten.
   */
  append(body: UploadBody): Promise<void>
  /**
   * Takes `last`, if any, and makes the blob readable; the session ends. Throws DIGEST_INVALID
   * where the bytes have another digest: the session is then as it was before.
   */
  commit(digest: Digest, last: UploadBody | undefined): Promise<{ readonly size: number }>
  /** Forgets the bytes; the session ends. */
  cancel(): Promise<void>
  /** Waits for the request at work and lets go of the file; the session stays. */
  release(): Promise<void>
}

export interface UploadParts {
  readonly sessions: Sessions
  readonly data: DataStore
  /** The session has ended. */
  readonly onEnd: () => void
}

/** After a pause of so long the file is closed; going on then hashes it again from its start. */
const closeAfterMs = 10 * 60 * 1000

interface OpenFile extends AsyncDisposable {
  readonly file: DataFile
  readonly spool: Spool
  hash: { readonly algorithm: DigestAlgorithm; readonly running: FileHash } | undefined
}

/** Goes on with the session as recorded. */
export function createUpload(id: string, recorded: Session, parts: UploadParts): Upload {
  const { sessions, data, onEnd } = parts
  let session = recorded
  let open: OpenFile | undefined
  let busy: Promise<unknown> | undefined
  let ended = false
  let closing: NodeJS.Timeout | undefined

  /** The file up to the acknowledged offset, with a hash of `algorithm` on its way. */
  async function openFile(algorithm: DigestAlgorithm): Promise<OpenFile> {
    const opened = open ?? (await openAt(session.offset))
    open = opened
    if (opened.hash?.algorithm !== algorithm) {
      opened.hash?.running[Symbol.dispose]()
      const running = opened.file.follow({ start: 0, algorithm })
      running.advance(opened.spool.end)
      opened.hash = { algorithm, running }
    }
    return opened
  }

  async function openAt(offset: number): Promise<OpenFile> {
    const file = await data.openForWrite(keys.data(session.data))
    try {
      // A crash may have left bytes that were never acknowledged.
      await file.truncate(offset)
    } catch (error) {
      await file[Symbol.asyncDispose]()
      throw error
    }
    const onWritten = (end: number): void => opened.hash?.running.advance(end)
    const spool = createSpool(file, { start: offset, onWritten })
    const opened: OpenFile = {
      file,
      spool,
      hash: undefined,
      async [Symbol.asyncDispose]() {
        opened.hash?.running[Symbol.dispose]()
        await spool.release()
        await file[Symbol.asyncDispose]()
      },
    }
    return opened
  }

  async function close(): Promise<void> {
    clearTimeout(closing)
    const opened = open
    open = undefined
    await opened?.[Symbol.asyncDispose]()
  }

  /** Back to the acknowledged offset; what was hashed beyond it is of no use. */
  async function rollback(): Promise<void> {
    open?.hash?.running[Symbol.dispose]()
    if (open) open.hash = undefined
    await open?.spool.rollback(session.offset)
  }

  async function acknowledge(spool: Spool): Promise<void> {
    await spool.sync()
    const next = { ...session, offset: spool.end }
    await sessions.save(id, next)
    session = next
  }

  function requireOffset({ at }: UploadBody): void {
    if (at === undefined || at === session.offset) return
    throw new CodedError(
      'RANGE_INVALID',
      `the upload has ${session.offset} bytes, the request starts at ${at}; continue at ${session.offset}`,
      { detail: { offset: session.offset } },
    )
  }

  async function rollingBack<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action()
    } catch (error) {
      await rollback()
      throw error
    }
  }

  /** A body that breaks is kept and reported; a storage that fails keeps nothing of this body. */
  async function receive(body: UploadBody, algorithm: DigestAlgorithm): Promise<Spool> {
    await requireRoom(data, body.expectedBytes)
    const { spool } = await openFile(algorithm)
    const chunks = body.bytes[Symbol.asyncIterator]()
    for (;;) {
      let next: IteratorResult<Uint8Array>
      try {
        next = await chunks.next()
      } catch (error) {
        await rollingBack(() => acknowledge(spool))
        throw new CodedError(
          'BLOB_UPLOAD_INVALID',
          `the request body broke off; ${session.offset} bytes are kept, continue there`,
          { cause: error, detail: { offset: session.offset } },
        )
      }
      if (next.done === true) return spool
      const chunk = next.value
      try {
        await rollingBack(() => spool.write(chunk))
      } catch (error) {
        await chunks.return?.()
        throw error
      }
    }
  }

  async function exclusively<T>(action: () => Promise<T>): Promise<T> {
    if (ended) throw new CodedError('BLOB_UPLOAD_UNKNOWN', `the upload ${id} has ended`)
    if (busy) {
      throw new CodedError(
        'RANGE_INVALID',
        `another request is sending to the upload ${id}; ask for its offset once that has ended`,
      )
    }
    clearTimeout(closing)
    const running = action()
    busy = running
    try {
      return await running
    } finally {
      busy = undefined
      // What the file holds is acknowledged: failing to close it loses nothing.
      closing = setTimeout(() => void close().catch(() => {}), closeAfterMs).unref()
    }
  }

  async function verify(digest: Digest, { hash, spool }: OpenFile): Promise<void> {
    await spool.flush()
    const result = await hash?.running.finish(spool.end)
    if (open) open.hash = undefined
    if (result?.hex === digestHex(digest)) return
    throw new CodedError(
      'DIGEST_INVALID',
      `the ${spool.end} bytes sent do not have the digest ${digest}; they have ${digestAlgorithm(digest)}:${result?.hex}`,
    )
  }

  /** Takes the last body and records the digest once it is verified and all bytes are durable. */
  async function prepare(digest: Digest, last: UploadBody | undefined): Promise<void> {
    if (session.committing) {
      throw new CodedError(
        'BLOB_UPLOAD_INVALID',
        `the upload is being committed as ${session.committing}; repeat that request`,
      )
    }
    if (last) requireOffset(last)
    if (last) await receive(last, digestAlgorithm(digest))
    await rollingBack(async () => {
      const opened = await openFile(digestAlgorithm(digest))
      await verify(digest, opened)
      await opened.spool.sync()
      const next = { ...session, offset: opened.spool.end, committing: digest }
      await sessions.save(id, next)
      session = next
    })
  }

  return {
    id,
    get offset() {
      return session.offset
    },
    append: (body) =>
      exclusively(async () => {
        requireOffset(body)
        const spool = await receive(body, open?.hash?.algorithm ?? 'sha256')
        await rollingBack(() => acknowledge(spool))
      }),
    commit: (digest, last) =>
      exclusively(async () => {
        if (session.committing !== digest) await prepare(digest, last)
        const size = session.offset
        await sessions.commit(id, { ...session, committing: digest }, { offset: 0, size })
        ended = true
        await close()
        onEnd()
        return { size }
      }),
    cancel: () =>
      exclusively(async () => {
        ended = true
        await close()
        await sessions.discard(id)
        onEnd()
      }),
    async release() {
      await Promise.allSettled([busy])
      await close()
    },
  }
}
