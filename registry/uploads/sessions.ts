import { randomUUID } from 'node:crypto'
import { CodedError } from '../../core/errors.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import type { BlobIndex } from '../blob-index.ts'
import type { DataFiles, DataStore } from '../data-store.ts'
import { keys } from '../keys.ts'
import { sessionRecord, type Session } from '../records.ts'
import { createSerial } from '../../core/serial.ts'
import { readVersioned, swap, type Versioned } from '../versioned.ts'

/** What of a session changes while bytes come. */
export type SessionChange = Partial<
  Pick<Session, 'algorithm' | 'checkpoint' | 'state' | 'blob' | 'resumable'>
>

/** The record of one blob on its way, and the version of it that this process knows. */
export interface OpenSession {
  readonly id: string
  /** As last read or written here. */
  readonly record: Session
  /** Reads it again; true where another process has written since. Throws BLOB_UPLOAD_UNKNOWN. */
  refresh(): Promise<boolean>
  /**
   * Makes this process the one that goes on, whoever was it before; true where it was another one:
   * what is known here of the data object is then of no use. Throws BLOB_UPLOAD_UNKNOWN.
   */
  takeOver(): Promise<boolean>
  /**
   * Records a change and the time of it. Throws RANGE_INVALID where another process has written
   * since: it has taken over, and nothing this process took since then counts.
   */
  save(change: SessionChange): Promise<void>
  /**
   * The one way from durable, verified bytes (`committing`) to a blob: makes it readable, then
   * removes the session, and the data where the same blob was there already. May be repeated after
   * a failure, also by another process. Throws BLOB_UPLOAD_UNKNOWN where the data is gone.
   */
  commit(): Promise<void>
  /** Removes the session and its data; never one that is `committing`. */
  discard(): Promise<void>
}

/**
 * The records of blobs on their way. A record is written before its data object and removed after
 * it, so what a crash leaves is always found from here, never by walking the store.
 */
export interface Sessions {
  create(options: Pick<Session, 'repo' | 'owner' | 'algorithm'>): Promise<OpenSession>
  /** `undefined` where there is no such session. */
  open(id: string): Promise<OpenSession | undefined>
  /** Ids in byte order. */
  list(): Promise<string[]>
}

/** Room that repositories may still take, kept for blobs on their way. */
export interface Reservations {
  /** The session will hold up to `bytes` in all. Throws DENIED where the repository may not. */
  reserve(session: { readonly id: string; readonly repo: string }, bytes: number): Promise<void>
  /** The session has become a blob or is gone. */
  release(id: string): Promise<void>
}

export interface SessionParts {
  readonly objects: ObjectStore
  readonly data: DataStore
  /** Where the storage is made of files. */
  readonly files: DataFiles | undefined
  readonly index: BlobIndex
  readonly reservations: Reservations
}

const aliveMs = 10 * 60 * 1000
/** After so long without a word the session is asked again before its blob is made. */
const trustedMs = 10 * 60 * 1000

export function createSessions(parts: Omit<SessionParts, 'files'>): Sessions {
  const { objects } = parts
  // Records of this process are told from those of others by it.
  const writer = randomUUID()

  return {
    async create({ repo, owner, algorithm }) {
      const id = randomUUID()
      const record: Session = {
        repo,
        owner,
        state: 'open',
        data: randomUUID(),
        algorithm,
        checkpoint: { offset: 0 },
        writer,
        rev: 0,
        at: new Date().toISOString(),
      }
      const created = await swap(objects, keys.upload(id), record, undefined)
      if (!created) throw unknownUpload(id)
      return createSession(id, created, { ...parts, writer, isMine: true })
    },
    async open(id) {
      const found = await readVersioned(objects, sessionRecord, keys.upload(id))
      return found && createSession(id, found, { ...parts, writer, isMine: false })
    },
    async list() {
      const found = await objects.list(keys.uploads, {})
      return found.map((key) => key.slice(keys.uploads.length, -'.json'.length))
    },
  }
}

interface SessionOwner {
  /** This process. */
  readonly writer: string
  /** It wrote the version that is known. */
  readonly isMine: boolean
}

function createSession(
  id: string,
  found: Versioned<Session>,
  parts: Omit<SessionParts, 'files'> & SessionOwner,
): OpenSession {
  const { objects, data, index, reservations, writer } = parts
  const key = keys.upload(id)
  const serial = createSerial()
  let current = found
  /** False from when another process has written until this one takes over. */
  let { isMine } = parts
  let knownAt = performance.now()

  async function write(change: SessionChange): Promise<void> {
    const asked = performance.now()
    const { record } = current
    const at = new Date().toISOString()
    const next: Session = { ...record, ...change, writer, rev: record.rev + 1, at }
    const written = (await swap(objects, key, next, current)) ?? (await findWritten(next))
    if (!written) throw takenOver(id)
    current = written
    knownAt = asked
  }

  /** The answer to a write may have been lost, and the write that repeated it been refused. */
  async function findWritten({ rev }: Session): Promise<Versioned<Session> | undefined> {
    const stored = await readVersioned(objects, sessionRecord, key)
    return stored?.record.writer === writer && stored.record.rev === rev ? stored : undefined
  }

  async function read(): Promise<boolean> {
    const stored = await readVersioned(objects, sessionRecord, key)
    if (!stored || stored.record.state === 'ended') throw unknownUpload(id)
    const isOther = stored.etag !== current.etag
    if (isOther) isMine = false
    current = stored
    knownAt = performance.now()
    return isOther
  }

  const save = (change: SessionChange): Promise<void> =>
    serial(id, async () => {
      // A version that was only looked at must not let a writer go on that it has overtaken.
      if (!isMine) throw takenOver(id)
      await write(change)
    })

  /** From here on no other process goes on with it. */
  async function end(): Promise<void> {
    try {
      await serial(id, () => write({ state: 'ended' }))
    } catch (error) {
      // Only a folder is ever full, and that has one owner: nobody else needs to know.
      if (!(error instanceof CodedError) || error.code !== 'STORAGE_FULL') throw error
    }
  }

  async function remove(): Promise<void> {
    await objects.delete(key)
    await reservations.release(id)
  }

  async function makeBlob(): Promise<void> {
    const { state, blob, repo, checkpoint } = current.record
    if (state !== 'committing' || !blob) throw new Error(`the upload ${id} is not verified`)
    const stored = await data.complete(current.record.data, checkpoint)
    if (!stored) throw unknownUpload(id)
    // A process that slept since may not know that the session has ended long ago.
    if (performance.now() - knownAt > trustedMs) await save({})
    const { digest, offset, size } = blob
    const isOurs = await index.commit(repo, digest, { ...stored, offset, size }, id)
    if (!isOurs) await data.delete({ ...stored, checkpoint })
  }

  return {
    id,
    get record() {
      return current.record
    },
    refresh: () => serial(id, read),
    takeOver: () =>
      serial(id, async () => {
        for (;;) {
          await read()
          if (isMine) return false
          try {
            await write({})
            isMine = true
            return true
          } catch (error) {
            // The other one has written in between: once more with what it wrote.
            if (!(error instanceof CodedError) || error.code !== 'RANGE_INVALID') throw error
          }
        }
      }),
    save,
    async commit() {
      try {
        await makeBlob()
      } catch (error) {
        // Committed and collected long ago: nothing is left that could go on.
        if (error instanceof CodedError && error.code === 'BLOB_UPLOAD_UNKNOWN') await remove()
        throw error
      }
      await remove()
    },
    async discard() {
      if (current.record.state !== 'ended') await end()
      await data.delete({ data: current.record.data, checkpoint: current.record.checkpoint })
      await remove()
    },
  }
}

/**
 * Says every ten minutes that the session is worked on, until disposed: bytes may be long in
 * coming, and a session that says nothing for an hour is taken for one of a dead process.
 */
export function keepAlive(session: OpenSession): Disposable {
  const timer = setInterval(() => {
    // A session that is lost is noticed by the next write.
    session.save({}).catch(() => {})
  }, aliveMs)
  timer.unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

/** The first step of a new session: where it fails nobody goes on with it, and it is forgotten. */
export async function begin<T>(session: OpenSession, step: () => Promise<T>): Promise<T> {
  try {
    return await step()
  } catch (error) {
    await session.discard()
    throw error
  }
}

/** The refusal of a session that is not there, of another repository, or has ended. */
export function unknownUpload(id: string): CodedError {
  return new CodedError(
    'BLOB_UPLOAD_UNKNOWN',
    `no upload ${JSON.stringify(id.slice(0, 100))}; start a new one`,
  )
}

/** What a request is refused with that is no longer the newest one of its session. */
export function takenOver(id: string): CodedError {
  return new CodedError(
    'RANGE_INVALID',
    `the upload ${id} was taken over by a newer request; ask for its offset and go on there`,
  )
}
