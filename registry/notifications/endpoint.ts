import { setTimeout as sleep } from 'node:timers/promises'
import type { Log } from '../../core/log.ts'
import { deliver } from './delivery.ts'
import type { EventStore, QueuedEvent } from './event-store.ts'
import type { WebhookMetrics } from './metrics.ts'
import type { WebhookSettings } from './settings.ts'

export interface EndpointParts {
  readonly store: Pick<EventStore, 'save' | 'remove'>
  readonly metrics: WebhookMetrics
  readonly log: Log
  /** Pause after the first failure; it doubles up to `mostPauseMs`. */
  readonly firstPauseMs: number
  /** Events that wait at most; more are dropped. */
  readonly mostQueued: number
  /** Events that are so old are dropped. */
  readonly giveUpMs: number
}

/** Brings events to one receiver, in order, one request at a time. */
export interface Endpoint extends AsyncDisposable {
  /** Takes an event; it is stored soon and delivered when it can be. Never throws. */
  add(queued: QueuedEvent): void
  /** Takes one that is stored already. */
  resume(queued: QueuedEvent): void
  /** Goes on with other settings, at once. */
  change(settings: WebhookSettings): void
  /** Forgets what waits, also in the store. */
  forget(): Promise<void>
  /** Stops; what is not delivered is in the store then. */
  [Symbol.asyncDispose](): Promise<void>
}

interface Waiting {
  readonly queued: QueuedEvent
  state: 'new' | 'stored' | 'done'
}

const mostPauseMs = 5 * 60 * 1000
const mostPerRequest = 100

export function createEndpoint(
  initial: WebhookSettings,
  { store, metrics, log, firstPauseMs, mostQueued, giveUpMs }: EndpointParts,
): Endpoint {
  const stopping = new AbortController()
  let settings = initial
  let waiting: Waiting[] = []
  let failures = 0
  let pause = new AbortController()
  let working: Promise<void> | undefined
  /** Writes to the store, one after the other. */
  let storing = Promise.resolve()
  let isFull = false

  metrics.watchQueue(initial.name, () => waiting.length)

  function storeLater(action: () => Promise<void>): void {
    storing = storing.then(action).catch((error: unknown) => {
      log.warn({ err: error, webhook: settings.name }, 'cannot store an event')
    })
  }

  function done(finished: readonly Waiting[], outcome: 'delivered' | 'dropped'): void {
    const set = new Set(finished)
    waiting = waiting.filter((one) => !set.has(one))
    metrics.ended(settings.name, outcome, finished.length)
    for (const one of finished) {
      const wasStored = one.state === 'stored'
      one.state = 'done'
      if (wasStored) storeLater(() => store.remove(one.queued))
    }
  }

  function dropOld(): void {
    const oldest = new Date(Date.now() - giveUpMs).toISOString()
    const old = waiting.filter(({ queued }) => queued.event.timestamp < oldest)
    if (old.length === 0) return
    done(old, 'dropped')
    log.error({ webhook: settings.name, events: old.length }, 'events were too old to deliver')
  }

  async function work(): Promise<void> {
    while (waiting.length > 0 && !stopping.signal.aborted) {
      const batch = waiting.slice(0, mostPerRequest)
      try {
        const events = batch.map(({ queued }) => queued.event)
        await deliver(events, settings, stopping.signal)
        if (failures > 0) log.info({ webhook: settings.name }, 'the webhook answers again')
        failures = 0
        done(batch, 'delivered')
      } catch (error) {
        if (stopping.signal.aborted) return
        failures += 1
        metrics.failed(settings.name)
        // Once is enough while it lasts.
        if (failures === 1) log.warn({ err: error, webhook: settings.name }, 'a webhook fails')
        dropOld()
        await pauseAfterFailure()
      }
    }
  }

  async function pauseAfterFailure(): Promise<void> {
    pause = new AbortController()
    const longest = Math.min(mostPauseMs, firstPauseMs * 2 ** (failures - 1))
    // Replicas that lost the same receiver do not come back at the same moment.
    const ms = longest * (0.5 + Math.random() / 2)
    const signal = AbortSignal.any([pause.signal, stopping.signal])
    await sleep(ms, undefined, { signal, ref: false }).catch(() => {})
  }

  function wake(): void {
    working ??= work().finally(() => {
      working = undefined
      if (waiting.length > 0 && !stopping.signal.aborted) wake()
    })
  }

  function enqueue(one: Waiting): boolean {
    if (stopping.signal.aborted && one.state === 'new') {
      // Stored for the next process.
      waiting.push(one)
      return true
    }
    if (waiting.length >= mostQueued) {
      metrics.ended(settings.name, 'dropped', 1)
      if (!isFull)
        log.error({ webhook: settings.name }, 'too many events wait; new ones are dropped')
      isFull = true
      return false
    }
    isFull = false
    waiting.push(one)
    wake()
    return true
  }

  return {
    add(queued) {
      const one: Waiting = { queued, state: 'new' }
      if (!enqueue(one)) return
      storeLater(async () => {
        if (one.state !== 'new') return
        await store.save(queued)
        if (one.state === 'new') one.state = 'stored'
        else await store.remove(queued)
      })
    },
    resume(queued) {
      const one: Waiting = { queued, state: 'stored' }
      if (!enqueue(one)) storeLater(() => store.remove(queued))
    },
    change(changed) {
      settings = changed
      pause.abort()
    },
    async forget() {
      stopping.abort()
      await working
      done(waiting, 'dropped')
      await storing
    },
    async [Symbol.asyncDispose]() {
      stopping.abort()
      await working
      await storing
    },
  }
}
