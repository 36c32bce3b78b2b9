import { CodedError, toCodedError } from '../core/errors.ts'
import { createSerial } from '../core/serial.ts'
import { attemptImport } from './attempts.ts'
import {
  checkNewImport,
  imageOf,
  finishedBefore,
  isFinished,
  newImportRecord,
  separateSecrets,
  type ImportRecord,
  type NewImport,
  type StoredImport,
} from './import-record.ts'
import { credentialsRequired } from './import-secrets.ts'
import type { ImportQueueDeps, QueuedImport } from './import-queue-deps.ts'
import { createImportTracker, type ImportTracker } from './import-tracker.ts'
import {
  requireSame,
  selectImports,
  type CreateImportOptions,
  type ImportQueue,
} from './imports.ts'
import { assertTagFree } from './image-push.ts'

const byCreation = (a: StoredImport, b: StoredImport): number =>
  a.record.createdAt.localeCompare(b.record.createdAt)

/** Of one import, over restarts. */
const mostAttempts = 10

const hourMs = 60 * 60 * 1000

/**
 * The imports of this process. Those that a killed process left unfinished go on. Disposing
 * it stops what runs and leaves it to the next start.
 */
export async function openImportQueue(deps: ImportQueueDeps): Promise<ImportQueue> {
  const stopping = new AbortController()
  const imports = new Map<string, QueuedImport>()
  const waiting: string[] = []
  /** Those whose credentials ended with another process. */
  const lacking = new Set<string>()
  const running = new Map<string, { cancel: AbortController; done: Promise<void> }>()
  /** Imports that another process runs now. */
  const lost = new Set<string>()
  const inTurn = createSerial()
  const saving = createSerial()

  function add(stored: StoredImport, mayPull?: QueuedImport['mayPull']): ImportTracker {
    const tracker = createImportTracker(stored.record)
    imports.set(stored.record.id, { stored, tracker, mayPull })
    if (!isFinished(stored.record)) {
      waiting.push(stored.record.id)
      deps.metrics.queued()
    }
    return tracker
  }

  function lookUp(id: string): QueuedImport {
    const found = imports.get(id)
    if (!found) {
      throw new CodedError(
        'IMPORT_UNKNOWN',
        `no import ${id}; finished imports are kept for a while`,
      )
    }
    return found
  }

  /**
   * Changes and saves a record, one change after the other: what is saved last is what was last.
   * Where that fails the import goes on; after a restart it runs again.
   */
  const keep = (id: string, change: Partial<ImportRecord>): Promise<ImportRecord> =>
    saving(id, async () => {
      const { stored, tracker } = lookUp(id)
      const record = { ...tracker.record, ...change }
      if (!lost.has(id)) {
        await deps.records.save({ ...stored, record }).catch((error: unknown) => {
          deps.log.error({ import: id, err: error }, 'cannot keep the record of an import')
        })
      }
      return tracker.change(change)
    })

  async function settle(id: string, change: Partial<ImportRecord>): Promise<ImportRecord> {
    const record = await keep(id, { ...change, finishedAt: new Date().toISOString() })
    await deps.secrets.forget(id)
    deps.metrics.finished(record)
    // What is kept of it is for the process that goes on with it.
    if (lost.has(id)) return record
    // Where this fails it is done once more when the record goes.
    await deps
      .keeperOf(record)
      .forget()
      .catch((error: unknown) => {
        deps.log.warn({ import: id, err: error }, 'cannot remove what was kept of an import')
      })
    return record
  }

  function startNext(): void {
    while (!stopping.signal.aborted && running.size < deps.maxRunning) {
      const id = waiting.shift()
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
      lacking.add(id)
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
      if (cancelled.aborted) return void (await settle(id, { state: 'cancelled' }))
      const error = toCodedError(failure)
      const { code, message, retryable } = error
      log.warn({ code, reason: message, err: error.cause }, 'import failed')
      await settle(id, { state: 'failed', error: { code, message, retryable } })
    }
  }

  async function create(
    asked: NewImport,
    { idempotencyKey, mayPull }: CreateImportOptions,
  ): Promise<ImportRecord> {
    const { request, credentials } = separateSecrets(asked)
    const { label, hosts } = checkNewImport(request, credentials)
    for (const host of hosts) deps.policy?.requireHost(host)
    const known = [...imports.values()].find(
      ({ stored }) => idempotencyKey !== undefined && stored.idempotencyKey === idempotencyKey,
    )
    if (known) {
      requireSame(known.stored, request, idempotencyKey)
      return known.tracker.record
    }
    if (waiting.length >= deps.maxWaiting) {
      throw new CodedError(
        'TOOMANYREQUESTS',
        `${deps.maxWaiting} imports wait already; ask again when some have ended`,
        { detail: { retryAfterSeconds: 60 } },
      )
    }
    await assertTagFree(deps.registry.repository(request.name), request)
    const record = newImportRecord(label, request)
    const { runner } = deps
    const stored: StoredImport = {
      record,
      request,
      ...(credentials && { needsCredentials: true }),
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      ...(runner === undefined ? {} : { runner }),
    }
    if (credentials) await deps.secrets.keep(record.id, credentials)
    await deps.records.save(stored).catch(async (error: unknown) => {
      await deps.secrets.forget(record.id)
      throw error
    })
    add(stored, mayPull)
    startNext()
    return record
  }

  async function giveUp({ id, attempts }: ImportRecord): Promise<void> {
    waiting.splice(waiting.indexOf(id), 1)
    const message = `the server ended while this import ran, after ${attempts} attempts; see its log, then import again`
    await settle(id, { state: 'failed', error: { code: 'UNKNOWN', message, retryable: false } })
  }

  const keptSince = (): Date => new Date(Date.now() - deps.retentionMs)

  async function forgetOld(): Promise<void> {
    for (const [id, { tracker }] of imports) {
      if (!finishedBefore(tracker.record, keptSince())) continue
      await deps.keeperOf(tracker.record).forget()
      await deps.records.remove(id)
      imports.delete(id)
    }
  }
  const forgetting = setInterval(() => {
    forgetOld().catch((error: unknown) => deps.log.error({ err: error }, 'cannot remove records'))
  }, hourMs).unref()

  async function adopt(stored: StoredImport): Promise<void> {
    const { record } = stored
    const state = isFinished(record) ? record.state : 'queued'
    add({ ...stored, record: { ...record, state } })
    // An import that takes the process down must not do so at every start.
    if (state === 'queued' && record.attempts >= mostAttempts) await giveUp(record)
  }

  const kept = deps.runner === undefined ? await deps.records.load(keptSince()) : []
  // Those that waited go on in the order they came.
  for (const stored of kept.toSorted(byCreation)) await adopt(stored)
  await deps.secrets.forgetOthers(new Set(waiting))
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
        [...imports.values()].toReversed().map(({ tracker }) => tracker.record),
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
      const at = waiting.indexOf(id)
      if (at >= 0 || lacking.delete(id)) {
        if (at >= 0) waiting.splice(at, 1)
        return settle(id, { state: 'cancelled' })
      }
      const run = running.get(id)
      run?.cancel.abort(new CodedError('CANCELLED', `import ${id} was cancelled`))
      await run?.done
      return tracker.record
    },
    async giveCredentials(id, credentials) {
      const { stored, tracker } = lookUp(id)
      checkNewImport(stored.request, credentials)
      if (!lacking.delete(id)) return tracker.record
      await deps.secrets.keep(id, credentials)
      const record = tracker.change({ error: undefined })
      waiting.push(id)
      startNext()
      return record
    },
    unfinished: () => [...waiting, ...lacking, ...running.keys()],
    async adopt(stored) {
      await adopt(stored)
      startNext()
    },
    async abandon(id) {
      const at = waiting.indexOf(id)
      if (at >= 0) waiting.splice(at, 1)
      lacking.delete(id)
      const run = running.get(id)
      lost.add(id)
      run?.cancel.abort(new CodedError('CANCELLED', `another process runs the import ${id}`))
      await run?.done
      lost.delete(id)
      imports.delete(id)
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
