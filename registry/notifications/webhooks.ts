import { hostname } from 'node:os'
import { createGlobMatcher } from '../../core/glob.ts'
import type { Log } from '../../core/log.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { createEndpoint, type Endpoint } from './endpoint.ts'
import { toSentEvent } from './envelope.ts'
import { createEventStore } from './event-store.ts'
import type { Events, RegistryEvent } from './events.ts'
import type { WebhookMetrics } from './metrics.ts'
import type { WebhookSettings } from './settings.ts'

export interface WebhooksDeps {
  readonly objects: ObjectStore
  readonly log: Log
  readonly metrics: WebhookMetrics
  /** Events of a process that has not been heard of for so long are taken over; two minutes unless said. */
  readonly orphanAfterMs?: number
  /** Pause after the first failed delivery; it doubles up to five minutes. One second unless said. */
  readonly firstPauseMs?: number
  /** Events that wait for one receiver at most; 10,000 unless said. */
  readonly mostQueued?: number
}

/** Tells receivers elsewhere what happens. Disposing keeps what is not delivered for later. */
export interface Webhooks extends Events, AsyncDisposable {
  /** From now on these receivers; what waits for others is forgotten. */
  apply(settings: readonly WebhookSettings[]): Promise<void>
}

/** A receiver that is away over a long weekend misses nothing. */
const giveUpMs = 4 * 24 * 60 * 60 * 1000

interface Receiver {
  readonly endpoint: Endpoint
  wants: (event: RegistryEvent) => boolean
}

/**
 * Delivers every event at least once to every receiver that wants it, in order, over restarts.
 * What a kill -9 takes is what happened in the moment before and was not stored yet.
 */
export async function openWebhooks(
  settings: readonly WebhookSettings[],
  { objects, log, metrics, ...limits }: WebhooksDeps,
): Promise<Webhooks> {
  const { orphanAfterMs = 120_000, firstPauseMs = 1000, mostQueued = 10_000 } = limits
  const store = createEventStore(objects, { orphanAfterMs, forgetAfterMs: giveUpMs, log })
  const source = { host: hostname(), instance: store.instance }
  const receivers = new Map<string, Receiver>()
  let count = 0
  let isOpen = false

  async function apply(next: readonly WebhookSettings[]): Promise<void> {
    for (const one of next) {
      const wants = createFilter(one)
      const receiver = receivers.get(one.name)
      receiver?.endpoint.change(one)
      if (receiver) receiver.wants = wants
      else receivers.set(one.name, { endpoint: createEndpoint(one, parts), wants })
    }
    const names = new Set(next.map(({ name }) => name))
    for (const [name, { endpoint }] of receivers) {
      if (names.has(name)) continue
      receivers.delete(name)
      await endpoint.forget()
    }
    if (next.length > 0 && !isOpen) {
      isOpen = true
      await keepAlive()
    }
  }

  async function keepAlive(): Promise<void> {
    try {
      await store.renew()
      const adopted = await store.adopt((endpoint) => receivers.has(endpoint))
      for (const queued of adopted) receivers.get(queued.endpoint)?.endpoint.resume(queued)
    } catch (error) {
      log.warn({ err: error }, 'cannot look for undelivered events')
    }
  }

  /** Sorts by time, also among processes. */
  function nextId(): string {
    count += 1
    const time = Date.now().toString(36).padStart(9, '0')
    return `${time}-${count.toString(36).padStart(6, '0')}-${store.instance.slice(0, 8)}`
  }

  const parts = { store, metrics, log, firstPauseMs, mostQueued, giveUpMs }
  await apply(settings)
  const renewing = setInterval(() => void (isOpen && keepAlive()), orphanAfterMs / 4)
  renewing.unref()
  return {
    emit(event) {
      for (const [endpoint, receiver] of receivers) {
        if (!receiver.wants(event)) continue
        receiver.endpoint.add({ endpoint, id: nextId(), event: toSentEvent(event, source) })
      }
    },
    apply,
    async [Symbol.asyncDispose]() {
      clearInterval(renewing)
      await Promise.all(
        [...receivers.values()].map(({ endpoint }) => endpoint[Symbol.asyncDispose]()),
      )
      if (isOpen) await store.release()
    },
  }
}

function createFilter({ actions, repositories }: WebhookSettings): Receiver['wants'] {
  const covers = createGlobMatcher(repositories)
  return ({ action, target }) => actions.includes(action) && covers(target.repository)
}
