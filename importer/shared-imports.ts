import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { CodedError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { claimOf, type ImportLog } from './import-log.ts'
import {
  checkNewImport,
  isFinished,
  separateSecrets,
  type ImportRecord,
  type StoredImport,
} from './import-record.ts'
import type { ImportSecrets } from './import-secrets.ts'
import { requireSame, selectImports, type ImportQueue, type Imports } from './imports.ts'
import type { Runners } from './runners.ts'

const cancelFolder = 'v1/imports-cancel/'
/** Records of other processes are looked at so often. */
const lookEveryMs = 1000

export interface SharedImportsDeps {
  /** Those of this process, with `runners.id` as their runner. */
  readonly queue: ImportQueue
  readonly records: ImportLog
  /** Those of the queue. */
  readonly secrets: ImportSecrets
  readonly objects: ObjectStore
  readonly runners: Runners
  readonly log: Log
  readonly retentionMs: number
  /** Between two beats; each writes one small object, and the progress of what runs. */
  readonly beatEveryMs: number
}

/**
 * The imports of several processes on one store, at any of them: each runs its own, answers for
 * all, and takes over those of a process that has died.
 */
export async function openSharedImports(
  deps: SharedImportsDeps,
): Promise<Imports & AsyncDisposable> {
  const { queue, records, secrets, objects, runners, log, retentionMs, beatEveryMs } = deps
  let beating: Promise<void> | undefined

  const load = (): Promise<StoredImport[]> => records.load(new Date(Date.now() - retentionMs))

  /** Everything that is kept, this process's own as they are now. */
  async function all(): Promise<ImportRecord[]> {
    const listed = await queue.list({ limit: Infinity })
    // Those that have ended may have begun anew elsewhere.
    const own = new Map(listed.filter(({ id }) => isOwn(id)).map((one) => [one.id, one]))
    const kept = await load()
    for (const { record } of kept) if (!own.has(record.id)) own.set(record.id, record)
    return [...own.values()]
  }

  const isOwn = (id: string): boolean => queue.unfinished().includes(id)

  async function read(id: string): Promise<ImportRecord> {
    if (isOwn(id)) return queue.get(id)
    const stored = z.uuid().safeParse(id).success ? await records.read(id) : undefined
    return stored?.record ?? queue.get(id)
  }

  async function beat(): Promise<void> {
    await runners.beat()
    await queue.keepProgress()
    const living = await runners.living()
    for (const stored of await load()) await look(stored, living)
    for (const key of await objects.list(cancelFolder, {})) {
      const id = key.slice(cancelFolder.length)
      if (!isOwn(id)) continue
      const asked = Buffer.from((await objects.get(key))?.bytes ?? []).toString()
      await (asked === 'pause' ? queue.pause(id) : queue.cancel(id))
      await objects.delete(key)
    }
  }

  async function look(stored: StoredImport, living: ReadonlySet<string>): Promise<void> {
    const { record, runner } = stored
    if (isFinished(record)) return
    if (isOwn(record.id) && runner !== runners.id) return queue.abandon(record.id)
    if (runner !== undefined && living.has(runner)) return
    const adopted = await records.adopt(record.id, { from: runner, to: runners.id })
    if (!adopted) return
    log.info({ import: record.id, from: runner }, 'going on with an import of another process')
    await queue.adopt(adopted)
  }

  async function beatNow(): Promise<void> {
    beating ??= beat()
      .catch((error: unknown) => log.warn({ err: error }, 'cannot look after imports'))
      .finally(() => (beating = undefined))
    await beating
  }

  /** True where this process is the one that takes the first request of a key. */
  async function claimKey(key: string): Promise<boolean> {
    const at = claimOf(key)
    const mine = Buffer.from(runners.id)
    if ((await objects.put(at, mine, 'ifAbsent')) !== undefined) return true
    const stored = await objects.get(at)
    if (!stored) return false
    const holder = Buffer.from(stored.bytes).toString()
    if (holder === runners.id) return true
    if ((await runners.living()).has(holder)) return false
    return (await objects.put(at, mine, { ifMatch: stored.etag })) !== undefined
  }

  /** The process that runs it sees this with its next beat. */
  async function askRunner(id: string, what: 'cancel' | 'pause'): Promise<ImportRecord> {
    const isDone = (record: ImportRecord): boolean =>
      isFinished(record) || (what === 'pause' && record.state === 'paused')
    if (isDone(await read(id))) return read(id)
    await objects.put(`${cancelFolder}${id}`, Buffer.from(what), 'always')
    const until = performance.now() + 4 * beatEveryMs
    for (;;) {
      const now = await read(id)
      if (isDone(now) || performance.now() > until) return now
      await sleep(lookEveryMs)
    }
  }

  await runners.beat()
  const timer = setInterval(() => void beatNow(), beatEveryMs).unref()
  void beatNow()

  return {
    async create(request, options) {
      const { idempotencyKey } = options
      if (idempotencyKey === undefined) return queue.create(request, options)
      const known = (await load()).find(
        (stored) => stored.idempotencyKey === idempotencyKey && !isOwn(stored.record.id),
      )
      if (!known) {
        if (await claimKey(idempotencyKey)) return queue.create(request, options)
        throw new CodedError(
          'UNAVAILABLE',
          'another process is taking the first request of this Idempotency-Key; send it again',
        )
      }
      requireSame(known, separateSecrets(request).request, idempotencyKey)
      return known.record
    },
    list: async (options) => selectImports(await all(), options),
    get: read,
    async *watch(id, { signal }) {
      if (isOwn(id)) {
        yield* queue.watch(id, { signal })
        return
      }
      for (let last = ''; !signal.aborted;) {
        const record = await read(id)
        const text = JSON.stringify(record)
        if (text !== last) yield record
        if (isFinished(record)) return
        last = text
        await sleep(lookEveryMs, undefined, { signal }).catch(() => {})
      }
    },
    cancel: async (id) => (isOwn(id) ? queue.cancel(id) : askRunner(id, 'cancel')),
    pause: async (id) => (isOwn(id) ? queue.pause(id) : askRunner(id, 'pause')),
    async retry(id) {
      if (!isOwn(id)) {
        const { state } = await read(id)
        if (state !== 'paused' && state !== 'failed' && state !== 'cancelled') return read(id)
        const stored = await records.read(id)
        const adopted = await records.adopt(id, { from: stored?.runner, to: runners.id })
        if (!adopted) return read(id)
        await queue.adopt(adopted)
      }
      return queue.retry(id)
    },
    async giveCredentials(id, credentials) {
      const own = { from: runners.id, to: runners.id }
      if (isOwn(id)) {
        if (await records.adopt(id, own)) return queue.giveCredentials(id, credentials)
        // Another process was given them before.
        await queue.abandon(id)
      }
      const record = await read(id)
      if (record.error?.code !== 'CREDENTIALS_REQUIRED') return record
      // They stay where they were given: this process goes on with it.
      const stored = await records.read(id)
      if (stored) checkNewImport(stored.request, credentials)
      const taking = { from: stored?.runner, to: runners.id }
      const adopted = await records.adopt(id, taking, { error: undefined })
      if (!adopted) return read(id)
      await secrets.keep(id, credentials)
      await queue.adopt(adopted)
      return queue.get(id)
    },
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await beating
      await queue[Symbol.asyncDispose]()
      await runners.leave()
    },
  }
}
