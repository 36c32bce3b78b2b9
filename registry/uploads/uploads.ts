import type { DigestAlgorithm } from '../../core/digest.ts'
import type { Log } from '../../core/log.ts'
import { requireRoom } from './room.ts'
import { unknownUpload, type OpenSession, type SessionParts, type Sessions } from './sessions.ts'
import { createPauses } from './pauses.ts'
import { createUpload, type Upload } from './upload.ts'

export interface CreateUploadOptions {
  /** Length of the first body, where known. */
  readonly expectedBytes?: number | undefined
  /** The digest it will end with is of this one, else its bytes are read again; sha256 unless said. */
  readonly algorithm?: DigestAlgorithm | undefined
}

/** The uploads of clients, begun in this process or any other one. */
export interface Uploads {
  /** Throws STORAGE_FULL where `expectedBytes` would not fit. */
  create(name: string, options?: CreateUploadOptions): Promise<Upload>
  /** Throws BLOB_UPLOAD_UNKNOWN where the repository has no such session. */
  open(name: string, id: string): Promise<Upload>
  /** Client sessions that this process works on, or did in the last minute. */
  readonly openCount: number
  /**
   * Removes sessions of clients and of imports that can go on, idle for longer than the store's
   * limit, and those of other imports that nobody works on any more: idle for an hour or, with
   * `importsAreDead`, all. What is verified becomes a blob instead. Walks the sessions only, never
   * the store.
   */
  sweep(options: { readonly importsAreDead: boolean }): Promise<void>
  /** Waits for the requests at work; the sessions stay for the next start. */
  release(): Promise<void>
}

export interface UploadsOptions extends Pick<SessionParts, 'data' | 'reservations'> {
  readonly sessions: Sessions
  readonly log: Log
  /** A client session idle for so long is removed. */
  readonly idleLimitMs: number
}

/** Import sessions at work are renewed six times as often (`blob-writer.ts`). */
const importIdleLimitMs = 60 * 60 * 1000

/** So long an upload keeps its file open between two requests, and so many do. */
const pauseLimits = { afterMs: 60 * 1000, most: 256 }

const idPattern = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export function createUploads(options: UploadsOptions): Uploads {
  const { sessions, data, log, idleLimitMs } = options
  const pauses = createPauses(pauseLimits)
  const open = new Map<string, { readonly name: string; readonly upload: Upload }>()

  function keep(session: OpenSession): Upload {
    const { id, record } = session
    // Two requests may have come here at once: both must get the same one.
    const known = open.get(id)
    if (known) return known.upload
    const upload = createUpload(session, { ...options, pauses, onUnused: () => open.delete(id) })
    open.set(id, { name: record.repo, upload })
    return upload
  }

  async function find(name: string, id: string): Promise<Upload> {
    const session = idPattern.test(id) ? await sessions.open(id) : undefined
    if (!session || session.record.owner !== 'client') throw unknownUpload(id)
    if (session.record.repo !== name || session.record.state === 'ended') throw unknownUpload(id)
    return keep(session)
  }

  function isAbandoned({ record }: OpenSession, importsAreDead: boolean): boolean {
    if (record.state === 'ended') return true
    const idleMs = Date.now() - Date.parse(record.at)
    if (record.owner === 'client' || record.resumable) return idleMs > idleLimitMs
    return importsAreDead || idleMs > importIdleLimitMs
  }

  async function sweepOne(id: string, importsAreDead: boolean): Promise<void> {
    const session = await sessions.open(id)
    if (!session || !isAbandoned(session, importsAreDead)) return
    const { state, owner, checkpoint } = session.record
    if (state === 'committing') {
      await session.takeOver()
      await session.commit()
    } else {
      await session.discard()
    }
    open.delete(id)
    log.info({ upload: id, owner, state, offset: checkpoint.offset }, 'removed an old upload')
  }

  return {
    async create(name, { expectedBytes = 0, algorithm = 'sha256' } = {}) {
      await requireRoom(data, expectedBytes)
      return keep(await sessions.create({ repo: name, owner: 'client', algorithm }))
    },
    async open(name, id) {
      const found = open.get(id)
      if (found && found.name !== name) throw unknownUpload(id)
      return found?.upload ?? find(name, id)
    },
    get openCount() {
      return open.size
    },
    async sweep({ importsAreDead }) {
      for (const id of await sessions.list()) {
        try {
          await sweepOne(id, importsAreDead)
        } catch (error) {
          // One damaged or busy session must not keep the others, or the server, from going on.
          log.warn({ upload: id, err: error }, 'cannot remove an old upload')
        }
      }
    },
    async release() {
      await Promise.allSettled([...open.values()].map(({ upload }) => upload.release()))
    },
  }
}
