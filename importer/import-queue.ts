import { CodedError, toCodedError } from '../core/errors.ts'
import { createSerial } from '../core/serial.ts'
import { attemptImport } from './attempts.ts'
import {
  checkNewImport,
  imageOf,
  isFinished,
  runAgain,
  type ImportRecord,
  type NewImport,
  type StoredImport,
} from './import-record.ts'
import { credentialsRequired } from './import-secrets.ts'
import { createImportBook, type QueuedImport } from './import-book.ts'
import type { ImportQueueDeps } from './import-queue-deps.ts'
import { fruitless, judgeAttempts } from './fruitless.ts'
import {
  requireSame,
  selectImports,
  type CreateImportOptions,
  type ImportQueue,
} from './imports.ts'
import { assertTagFree } from './image-push.ts'
import { prepareImport } from './new-import.ts'
import { nextInTurn } from './next-in-turn.ts'

const byCreation = (a: StoredImport, b: StoredImport): number =>
  a.record.createdAt.localeCompare(b.record.createdAt)

/** What a run is stopped with that is to go on later. */
const pausing = new CodedError('CANCELLED', 'the import was paused')

const hourMs = 60 * 60 * 1000

/**
 * The imports of this process. Those that a killed process left unfinished go on. Disposing
 * it stops what runs and leaves it to the next start.
 */
export async function openImportQueue(deps: ImportQueueDeps): Promise<ImportQueue> {
  const stopping = new AbortController()
  const book = createImportBook(deps)
  const { lookUp, keep, settle } = book
  const waiting: string[] = []
  /** Those that are paused, or whose credentials ended with another process. */
  const held = new Set<string>()
  const running = new Map<string, { cancel: AbortController; done: Promise<void> }>()
  const inTurn = createSerial()

  function add(stored: StoredImport, mayPull?: QueuedImport['mayPull']): void {
    const { id, state } = stored.record
    book.add(stored, mayPull)
    if (isFinished(stored.record)) return
    if (state === 'paused') held.add(id)
    else waiting.push(id)
  }

  function takeNext(): string | undefined {
    const records = (ids: Iterable<string>) => [...ids].map((id) => lookUp(id).tracker.record)
    const known = book.all().map(({ tracker }) => tracker.record)
    const id = nextInTurn(records(waiting), records(running.keys()), known)?.id
    if (id !== undefined) waiting.splice(waiting.indexOf(id), 1)
    return id
  }

  function startNext(): void {
    while (!stopping.signal.aborted && running.size < deps.maxRunning) {
      const id = takeNext()
      if (id === undefined) return
      const cancel = new AbortController()
      const done = run(id, cancel.signal).finally(() => {
        running.delete(id)
        startNext()
      })
      running.set(id, { cancel, done })
    }
  }

  async function run(id: string, cancelled: AbortSignal): Promise<void> {
    const { stored, tracker, mayPull } = lookUp(id)
    const log = deps.log.child({ import: id })
    const signal = AbortSignal.any([stopping.signal, cancelled])
    const startedMs = performance.now()
    const credentials = await deps.secrets.get(id)
    if (stored.needsCredentials === true && !credentials && !cancelled.aborted) {
      held.add(id)
      return void (await keep(id, { state: 'queued', error: credentialsRequired(id) }))
    }
    tracker.change({ state: 'running', startedAt: new Date().toISOString(), error: undefined })
    log.info({ image: `${stored.request.name}:${stored.request.tag}` }, 'import started')
    try {
      const imported = await attemptImport(stored.request, deps, {
        credentials,
        mayPull,
        keeper: deps.keeperOf(tracker.record),
        signal,
        log,
        report: tracker.report,
        onStart: async () => void (await keep(id, { attempts: tracker.record.attempts + 1 })),
      })
      const image = imageOf(imported, startedMs)
      await settle(id, { state: 'succeeded', image })
      log.info(image, 'import succeeded')
    } catch (failure) {
      if (stopping.signal.aborted) {
        // Stopping is no failure of the import.
        return void (await keep(id, { attempts: tracker.record.attempts - 1 }))
      }
      if (cancelled.reason === pausing) {
        held.add(id)
        return void (await keep(id, { state: 'paused' }))
      }
      if (cancelled.aborted) return void (await settle(id, { state: 'cancelled' }))
      const error = toCodedError(failure)
      const { code, message, retryable } = error
      log.warn({ code, reason: message, err: error.cause }, 'import failed')
      await settle(id, { state: 'failed', error: { code, message, retryable } })
    }
  }

  function requirePlace(): void {
    if (waiting.length < deps.maxWaiting) return
    throw new CodedError(
      'TOOMANYREQUESTS',
      `${deps.maxWaiting} imports wait already; ask again when some have ended`,
      { detail: { retryAfterSeconds: 60 } },
    )
  }

  /** True where it was waiting or held, and is so no longer. */
  function takeOut(id: string): boolean {
    const at = waiting.indexOf(id)
    if (at >= 0) waiting.splice(at, 1)
    return held.delete(id) || at >= 0
  }

  async function create(
    asked: NewImport,
    { idempotencyKey, mayPull }: CreateImportOptions,
  ): Promise<ImportRecord> {
    const { runner, policy } = deps
    const { stored, credentials } = prepareImport(asked, { idempotencyKey, runner, policy })
    const { record, request } = stored
    const known = book
      .all()
      .find((one) => idempotencyKey !== undefined && one.stored.idempotencyKey === idempotencyKey)
    if (known) {
      requireSame(known.stored, request, idempotencyKey)
      return known.tracker.record
    }
    requirePlace()
    await assertTagFree(deps.registry.repository(request.name), request)
    if (credentials) await deps.secrets.keep(record.id, credentials)
    await deps.records.save(stored).catch(async (error: unknown) => {
      await deps.secrets.forget(record.id)
      throw error
    })
    add(stored, mayPull)
    startNext()
    return record
  }

  async function retry(id: string): Promise<ImportRecord> {
    const { stored, tracker } = lookUp(id)
    const { state } = tracker.record
    if (state === 'queued' || state === 'running' || state === 'succeeded') return tracker.record
    requirePlace()
    if (state !== 'paused') {
      await assertTagFree(deps.registry.repository(stored.request.name), stored.request)
    }
    const record = await keep(id, runAgain(tracker.record))
    held.delete(id)
    waiting.push(id)
    startNext()
    return record
  }

  const keptSince = (): Date => new Date(Date.now() - deps.retentionMs)
  const forgetting = setInterval(() => {
    book
      .forgetOld(keptSince())
      .catch((error: unknown) => deps.log.error({ err: error }, 'cannot remove records'))
  }, hourMs).unref()

  async function adopt(stored: StoredImport): Promise<void> {
    const { record } = stored
    const state = record.state === 'running' ? 'queued' : record.state
    const isOver = state !== 'queued'
    const judged = isOver ? stored : await judgeAttempts(stored, deps.keeperOf(record))
    add({ ...(judged ?? stored), record: { ...record, state } })
    if (judged) return
    takeOut(record.id)
    await settle(record.id, { state: 'failed', error: fruitless(record) })
  }

  const kept = deps.runner === undefined ? await deps.records.load(keptSince()) : []
  // Those that waited go on in the order they came.
  for (const stored of kept.toSorted(byCreation)) await adopt(stored)
  await deps.secrets.forgetOthers(new Set([...waiting, ...held]))
  startNext()

  return {
    create: (request, options) => {
      // Two requests of one key at once are one import.
      const { idempotencyKey: key } = options
      return key === undefined
        ? create(request, options)
        : inTurn(key, () => create(request, options))
    },
    async list(options) {
      return selectImports(
        book
          .all()
          .toReversed()
          .map(({ tracker }) => tracker.record),
        options,
      )
    },
    async get(id) {
      return lookUp(id).tracker.record
    },
    async *watch(id, { signal }) {
      yield* lookUp(id).tracker.watch(AbortSignal.any([signal, stopping.signal]))
    },
    async cancel(id) {
      const { tracker } = lookUp(id)
      if (takeOut(id)) return settle(id, { state: 'cancelled' })
      const run = running.get(id)
      run?.cancel.abort(new CodedError('CANCELLED', `import ${id} was cancelled`))
      await run?.done
      return tracker.record
    },
    async pause(id) {
      const { tracker } = lookUp(id)
      if (takeOut(id)) {
        held.add(id)
        return keep(id, { state: 'paused' })
      }
      const run = running.get(id)
      run?.cancel.abort(pausing)
      await run?.done
      return tracker.record
    },
    // Two at once are one.
    retry: (id) => inTurn(id, () => retry(id)),
    async giveCredentials(id, credentials) {
      const { stored, tracker } = lookUp(id)
      checkNewImport(stored.request, credentials)
      if (tracker.record.error?.code !== 'CREDENTIALS_REQUIRED' || !held.delete(id)) {
        return tracker.record
      }
      await deps.secrets.keep(id, credentials)
      const record = tracker.change({ error: undefined })
      waiting.push(id)
      startNext()
      return record
    },
    unfinished: () => [...waiting, ...held, ...running.keys()],
    async adopt(stored) {
      await adopt(stored)
      startNext()
    },
    async abandon(id) {
      takeOut(id)
      const run = running.get(id)
      book.lose(id)
      run?.cancel.abort(new CodedError('CANCELLED', `another process runs the import ${id}`))
      await run?.done
      book.drop(id)
    },
    async keepProgress() {
      for (const id of running.keys()) await keep(id, {})
    },
    async [Symbol.asyncDispose]() {
      clearInterval(forgetting)
      stopping.abort(new CodedError('UNAVAILABLE', 'the server is stopping'))
      await Promise.all([...running.values()].map(({ done }) => done))
    },
  }
}
