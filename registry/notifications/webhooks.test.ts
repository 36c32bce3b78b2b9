import { setTimeout as sleep } from 'node:timers/promises'
import { Registry } from '@prometheus-io/client'
import { describe, expect, it } from 'vitest'
import { createLog } from '../../core/log.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { openTempStore } from '../../test/fixtures/temp-store.ts'
import { startWebhookReceiver } from '../../test/fixtures/webhook-receiver.ts'
import { createEventStore } from './event-store.ts'
import { createWebhookMetrics } from './metrics.ts'
import { webhookSettings } from './settings.ts'
import { openWebhooks } from './webhooks.ts'

const log = createLog('silent')
const limits = { firstPauseMs: 10, orphanAfterMs: 200, mostQueued: 1000 }

function settingsFor(url: string, more: object = {}) {
  return webhookSettings.parse({ name: 'ci', url, ...more })
}

async function open(
  objects: ObjectStore,
  settings: readonly ReturnType<typeof settingsFor>[],
  more: Partial<typeof limits> = {},
) {
  const metrics = new Registry()
  const deps = { objects, log, metrics: createWebhookMetrics(metrics), ...limits, ...more }
  const webhooks = await openWebhooks(settings, deps)
  return { webhooks, metrics, [Symbol.asyncDispose]: () => webhooks[Symbol.asyncDispose]() }
}

const push = (repository: string) => ({ action: 'push', target: { repository } }) as const
const names = (events: readonly { readonly target: { readonly repository: string } }[]) =>
  events.map(({ target }) => target.repository)
const numbered = (count: number) => Array.from({ length: count }, (_, index) => `r/${index}`)

describe('a webhook', () => {
  it('gets the events that it wants, in order, and the store is empty then', async () => {
    await using receiver = await startWebhookReceiver()
    await using store = await openTempStore()
    const settings = settingsFor(receiver.url, {
      actions: ['push', 'mount'],
      repositories: ['r/**', 'one'],
    })
    await using opened = await open(store.objects, [settings])
    const { webhooks } = opened
    webhooks.emit(push('other'))
    webhooks.emit({ action: 'delete', target: { repository: 'r/x' } })
    webhooks.emit({ action: 'mount', target: { repository: 'one' } })
    for (const name of numbered(250)) webhooks.emit(push(name))
    await expect.poll(() => receiver.events().length).toBe(251)
    expect(names(receiver.events())).toEqual(['one', ...numbered(250)])
    const left = () => store.objects.list('v1/events/queue/', {})
    await expect.poll(left).toEqual([])
  })

  it('gets what it refused again, in order, and nothing twice', async () => {
    await using receiver = await startWebhookReceiver()
    await using store = await openTempStore()
    await using opened = await open(store.objects, [settingsFor(receiver.url)])
    const { webhooks, metrics } = opened
    receiver.answer(503)
    for (const name of numbered(5)) webhooks.emit(push(name))
    await expect.poll(() => receiver.requests.length).toBeGreaterThan(2)
    receiver.answer(200)
    await expect.poll(() => names(receiver.events())).toEqual(numbered(5))
    const text = await metrics.metrics()
    expect(text).toContain('dvcr_webhook_events_total{webhook="ci",outcome="delivered"} 5')
    expect(text).toMatch(/dvcr_webhook_failures_total\{webhook="ci"\} [3-9]/)
  })

  it.each([301, 400, 404])('is tried again where it answers %i', async (status) => {
    await using receiver = await startWebhookReceiver()
    await using store = await openTempStore()
    await using opened = await open(store.objects, [settingsFor(receiver.url)])
    const { webhooks } = opened
    receiver.answer(status)
    webhooks.emit(push('r/1'))
    await expect.poll(() => receiver.requests.length).toBeGreaterThan(1)
    receiver.answer(200)
    await expect.poll(() => names(receiver.events())).toEqual(['r/1'])
  })

  it('that is full gets no more, and the events before are kept', async () => {
    await using receiver = await startWebhookReceiver()
    await using store = await openTempStore()
    await using opened = await open(store.objects, [settingsFor(receiver.url)], {
      mostQueued: 3,
    })
    const { webhooks, metrics } = opened
    receiver.answer('never')
    for (const name of numbered(10)) webhooks.emit(push(name))
    expect(await metrics.metrics()).toContain('dvcr_webhook_events_waiting{webhook="ci"} 3')
    expect(await metrics.metrics()).toContain('{webhook="ci",outcome="dropped"} 7')
  })
})

describe('events that are not delivered', () => {
  it('are delivered after a restart', async () => {
    await using receiver = await startWebhookReceiver()
    await using store = await openTempStore()
    receiver.answer('never')
    const first = await open(store.objects, [settingsFor(receiver.url)])
    for (const name of numbered(20)) first.webhooks.emit(push(name))
    await first.webhooks[Symbol.asyncDispose]()
    receiver.answer(200)
    await using opened = await open(store.objects, [settingsFor(receiver.url)])
    await expect.poll(() => names(receiver.events())).toEqual(numbered(20))
    expect(await opened.metrics.metrics()).toContain('{webhook="ci",outcome="delivered"} 20')
    const left = () => store.objects.list('v1/events/queue/', {})
    await expect.poll(left).toEqual([])
  })

  it('of a process that was killed are taken over by another one, once it is gone', async () => {
    await using receiver = await startWebhookReceiver()
    await using store = await openTempStore()
    const { objects } = store
    const killed = createEventStore(objects, { orphanAfterMs: 200, forgetAfterMs: 60_000, log })
    await killed.renew()
    const event = { id: 'e', timestamp: new Date().toISOString(), action: 'push' }
    for (const [endpoint, id] of [
      ['ci', '1'],
      ['unknown-here', '2'],
    ] as const) {
      await killed.save({ endpoint, id, event: { ...event, target: { repository: `r/${id}` } } })
    }
    await using opened = await open(objects, [settingsFor(receiver.url)])
    expect(receiver.events()).toEqual([])
    await expect.poll(() => names(receiver.events())).toEqual(['r/1'])
    expect(await opened.metrics.metrics()).toContain('{webhook="ci",outcome="delivered"} 1')
    // For a process that knows that receiver.
    const left = async () => (await objects.list('v1/events/queue/', {})).length
    await expect.poll(left).toBe(1)
  })

  it('of a process that is alive are left to it', async () => {
    await using receiver = await startWebhookReceiver()
    await using store = await openTempStore()
    receiver.answer('never')
    const settings = [settingsFor(receiver.url)]
    await using one = await open(store.objects, settings)
    one.webhooks.emit(push('r/1'))
    await using two = await open(store.objects, settings)
    await sleep(1000)
    expect(await two.metrics.metrics()).toContain('dvcr_webhook_events_waiting{webhook="ci"} 0')
  })

  it('are forgotten with their webhook', async () => {
    await using receiver = await startWebhookReceiver()
    await using store = await openTempStore()
    receiver.answer('never')
    await using opened = await open(store.objects, [settingsFor(receiver.url)])
    const { webhooks } = opened
    for (const name of numbered(5)) webhooks.emit(push(name))
    await webhooks.apply([])
    expect(await store.objects.list('v1/events/queue/', {})).toEqual([])
  })

  it('go to the address that the settings name now', async () => {
    await using old = await startWebhookReceiver()
    await using changed = await startWebhookReceiver()
    await using store = await openTempStore()
    old.answer(500)
    await using opened = await open(store.objects, [settingsFor(old.url)], { firstPauseMs: 60_000 })
    const { webhooks } = opened
    webhooks.emit(push('r/1'))
    await expect.poll(() => old.requests.length).toBe(1)
    await webhooks.apply([settingsFor(changed.url)])
    await expect.poll(() => names(changed.events())).toEqual(['r/1'])
  })
})

it('a store that fails costs no event while the process lives', async () => {
  await using receiver = await startWebhookReceiver()
  await using store = await openTempStore()
  const full: ObjectStore = {
    ...store.objects,
    put: () => Promise.reject(new Error('no space left')),
  }
  const { webhooks } = await open(full, [settingsFor(receiver.url)])
  webhooks.emit(push('r/1'))
  await expect.poll(() => names(receiver.events())).toEqual(['r/1'])
  await webhooks[Symbol.asyncDispose]()
})
