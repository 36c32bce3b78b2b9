import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { Log } from '../../core/log.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { sentEvent, type SentEvent } from './envelope.ts'

/** Says that the process that stores events under this name is alive. */
const leaseRecord = z.strictObject({ at: z.number() })

/** An event on its way to one endpoint. */
export interface QueuedEvent {
  readonly endpoint: string
  /** Sorts by time. */
  readonly id: string
  readonly event: SentEvent
}

/**
 * Events that are not delivered yet, so that they survive this process. Every process keeps its
 * own; those of a process that is gone are taken over by any other.
 */
export interface EventStore {
  /** Of this process, as receivers see it. */
  readonly instance: string
  save(queued: QueuedEvent): Promise<void>
  remove(queued: QueuedEvent): Promise<void>
  /**
   * Makes the events of processes that are gone this process's own, and answers them in order.
   * Those for endpoints that are not `known` here stay for a process that knows them, for
   * `forgetAfterMs`.
   */
  adopt(known: (endpoint: string) => boolean): Promise<QueuedEvent[]>
  /** Tells the others that this process is alive; they wait `orphanAfterMs` for the next word. */
  renew(): Promise<void>
  /** This process ends: others may take its events at once. */
  release(): Promise<void>
}

const leases = 'v1/events/leases/'
const leaseKey = (instance: string): string => `${leases}${instance}.json`
const queueFolder = (instance: string): string => `v1/events/queue/${instance}/`

export interface EventStoreOptions {
  readonly orphanAfterMs: number
  readonly forgetAfterMs: number
  readonly log: Log
}

export function createEventStore(
  objects: ObjectStore,
  { orphanAfterMs, forgetAfterMs, log }: EventStoreOptions,
): EventStore {
  const instance = randomUUID()
  const keyOf = ({ endpoint, id }: Omit<QueuedEvent, 'event'>): string =>
    `${queueFolder(instance)}${endpoint}/${id}.json`
  const leaseNow = (): Buffer => Buffer.from(JSON.stringify({ at: Date.now() }))

  async function save({ event, ...place }: QueuedEvent): Promise<void> {
    await objects.put(keyOf(place), Buffer.from(JSON.stringify(event)), 'always')
  }

  /** True where the process is gone and nobody else takes its events now. */
  async function takeOver(other: string): Promise<boolean> {
    const lease = await objects.get(leaseKey(other))
    if (!lease) return false
    const { at } = leaseRecord.parse(JSON.parse(Buffer.from(lease.bytes).toString()))
    if (at > Date.now() - orphanAfterMs) return false
    const etag = await objects.put(leaseKey(other), leaseNow(), { ifMatch: lease.etag })
    return etag !== undefined
  }

  async function read(key: string): Promise<SentEvent | undefined> {
    const found = await objects.get(key)
    return found && sentEvent.parse(JSON.parse(Buffer.from(found.bytes).toString()))
  }

  /** Each is stored here before it is removed there: a crash doubles it, at worst. */
  async function move(
    other: string,
    known: (endpoint: string) => boolean,
  ): Promise<{ readonly moved: QueuedEvent[]; readonly isEmpty: boolean }> {
    const folder = queueFolder(other)
    const moved: QueuedEvent[] = []
    let isEmpty = true
    for (const key of await objects.list(folder, {})) {
      const [endpoint = '', file = ''] = key.slice(folder.length).split('/')
      const event = await read(key)
      if (!event) continue
      const queued = { endpoint, id: file.replace(/\.json$/, ''), event }
      if (known(endpoint)) {
        await save(queued)
        moved.push(queued)
      } else if (Date.parse(event.timestamp) > Date.now() - forgetAfterMs) {
        isEmpty = false
        continue
      }
      await objects.delete(key)
    }
    return { moved, isEmpty }
  }

  return {
    instance,
    save,
    remove: async (queued) => void (await objects.delete(keyOf(queued))),
    async adopt(known) {
      const adopted: QueuedEvent[] = []
      for (const key of await objects.list(leases, {})) {
        const other = key.slice(leases.length).replace(/\.json$/, '')
        if (other === instance || !(await takeOver(other))) continue
        const { moved, isEmpty } = await move(other, known)
        if (isEmpty) await objects.delete(key)
        if (moved.length === 0) continue
        log.info({ instance: other, events: moved.length }, 'undelivered events taken over')
        adopted.push(...moved)
      }
      return adopted.sort((one, two) => (one.id < two.id ? -1 : 1))
    },
    renew: async () => void (await objects.put(leaseKey(instance), leaseNow(), 'always')),
    async release() {
      const left = await objects.list(queueFolder(instance), { limit: 1 })
      const gone = Buffer.from(JSON.stringify({ at: 0 }))
      if (left.length > 0) await objects.put(leaseKey(instance), gone, 'always')
      else await objects.delete(leaseKey(instance))
    },
  }
}
