import { CodedError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import { requireRoom, type SessionParts, type Sessions } from './sessions.ts'
import { createUpload, type Upload } from './upload.ts'

/** The uploads of clients, in this process and from before its start. */
export interface Uploads {
  /** Throws STORAGE_FULL where `expectedBytes` would not fit. */
  create(name: string, expectedBytes: number): Promise<Upload>
  /** Throws BLOB_UPLOAD_UNKNOWN where the repository has no such session. */
  open(name: string, id: string): Promise<Upload>
  /** Client sessions that are open in this process. */
  readonly openCount: number
  /**
   * Removes client sessions idle for longer than the store's limit and, with `importsAreDead`,
   * those of an earlier process. Walks the sessions only, never the store.
   */
  sweep(options: { readonly importsAreDead: boolean }): Promise<void>
  /** Waits for the requests at work; the sessions stay for the next start. */
  release(): Promise<void>
}

export interface UploadsOptions extends Pick<SessionParts, 'data'> {
  readonly sessions: Sessions
  readonly log: Log
  /** A session idle for so long is removed. */
  readonly idleLimitMs: number
}

const idPattern = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export function createUploads({ sessions, data, log, idleLimitMs }: UploadsOptions): Uploads {
  const open = new Map<string, { readonly name: string; readonly upload: Upload }>()

  const unknown = (id: string): CodedError =>
    new CodedError(
      'BLOB_UPLOAD_UNKNOWN',
      `no upload ${JSON.stringify(id.slice(0, 100))}; start a new one`,
    )

  async function reopen(name: string, id: string): Promise<Upload> {
    const session = idPattern.test(id) ? await sessions.read(id) : undefined
    if (!session || session.owner !== 'client' || session.repo !== name) throw unknown(id)
    // Two requests may have come here at once: both must get the same one.
    const upload = open.get(id)?.upload ?? make(name, id, session)
    return upload
  }

  function make(...[name, id, session]: [string, string, Parameters<typeof createUpload>[1]]) {
    const upload = createUpload(id, session, { sessions, data, onEnd: () => open.delete(id) })
    open.set(id, { name, upload })
    return upload
  }

  async function sweepOne(id: string, importsAreDead: boolean): Promise<void> {
    const session = await sessions.read(id)
    if (!session) return
    const isIdle = Date.parse(session.at) + idleLimitMs < Date.now()
    if (session.owner === 'import' ? !importsAreDead : !isIdle) return
    if (session.owner === 'client') await (await reopen(session.repo, id)).cancel()
    else await sessions.discard(id)
    log.info({ upload: id, owner: session.owner, offset: session.offset }, 'removed an old upload')
  }

  return {
    async create(name, expectedBytes) {
      await requireRoom(data, expectedBytes)
      const { id, session } = await sessions.create({ repo: name, owner: 'client', reserve: 0 })
      return make(name, id, session)
    },
    async open(name, id) {
      const found = open.get(id)
      if (found && found.name !== name) throw unknown(id)
      return found?.upload ?? reopen(name, id)
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
