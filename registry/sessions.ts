import { randomUUID } from 'node:crypto'
import type { Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import type { ObjectStore } from '../core/object-store.ts'
import type { BlobIndex } from './blob-index.ts'
import type { DataStore } from './data-store.ts'
import { keys } from './keys.ts'
import { decodeJson, encodeJson, sessionRecord, type Session } from './records.ts'

/**
 * The records of blobs on their way. A record is written before its data object and removed after
 * it, so what a crash leaves is always found from here, never by walking the store.
 */
export interface Sessions {
  create(
    options: Pick<Session, 'repo' | 'owner' | 'reserve'>,
  ): Promise<{ readonly id: string; readonly session: Session }>
  /** `undefined` where there is no such session. */
  read(id: string): Promise<Session | undefined>
  /** Records progress and the time of it. */
  save(id: string, session: Session): Promise<void>
  /**
   * The one way from durable bytes to a blob: makes it readable, then removes the session, and
   * the data where the same blob was there already. The session as saved names the digest in
   * `committing`, so that a crash in between is understood. May be repeated after a failure.
   */
  commit(
    id: string,
    session: Session & { readonly committing: Digest },
    blob: { readonly offset: number; readonly size: number },
  ): Promise<void>
  /** Removes the session and its data, unless a blob was made of them. */
  discard(id: string): Promise<void>
  /** Ids in byte order. */
  list(): Promise<string[]>
}

export interface SessionParts {
  readonly objects: ObjectStore
  readonly data: DataStore
  readonly index: BlobIndex
}

export function createSessions({ objects, data, index }: SessionParts): Sessions {
  async function save(id: string, session: Session): Promise<void> {
    const record = encodeJson({ ...session, at: new Date().toISOString() })
    await objects.put(keys.upload(id), record, 'always')
  }

  async function read(id: string): Promise<Session | undefined> {
    const key = keys.upload(id)
    const stored = await objects.get(key)
    return stored && decodeJson(sessionRecord, stored.bytes, key)
  }

  return {
    async create({ repo, owner, reserve }) {
      const id = randomUUID()
      const at = new Date().toISOString()
      const session: Session = { repo, owner, reserve, data: randomUUID(), offset: 0, at }
      await save(id, session)
      return { id, session }
    },
    read,
    save,
    async commit(id, session, { offset, size }) {
      const stored = { data: session.data, offset, size }
      const isOurs = await index.commit(session.repo, session.committing, stored)
      if (!isOurs) await data.delete(keys.data(session.data))
      await objects.delete(keys.upload(id))
    },
    async discard(id) {
      // As recorded, not as remembered: a commit may have failed half-way.
      const session = await read(id)
      if (!session) return
      const { committing } = session
      const isBlob = committing && (await index.isStoredIn(committing, session.data))
      if (!isBlob) await data.delete(keys.data(session.data))
      await objects.delete(keys.upload(id))
    },
    async list() {
      const found = await objects.list(keys.uploads, {})
      return found.map((key) => key.slice(keys.uploads.length, -'.json'.length))
    },
  }
}

/** Throws STORAGE_FULL where `bytes` more would not fit, saying both figures. */
export async function requireRoom(data: DataStore, bytes: number): Promise<void> {
  const free = await data.freeBytes()
  if (bytes <= free) return
  throw new CodedError(
    'STORAGE_FULL',
    `cannot store ${bytes} bytes: the storage has ${free} bytes free; free space or remove images, then retry`,
    { detail: { neededBytes: bytes, freeBytes: free } },
  )
}
