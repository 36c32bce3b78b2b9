import { Counter, Gauge, type Registry } from '@prometheus-io/client'

/** What is counted of webhooks, by the name that the settings give them. */
export interface WebhookMetrics {
  ended(webhook: string, outcome: 'delivered' | 'dropped', events: number): void
  /** A request that was not answered with success. */
  failed(webhook: string): void
  /** Asked when the metrics are read. */
  watchQueue(webhook: string, count: () => number): void
}

export function createWebhookMetrics(registry: Registry): WebhookMetrics {
  const registers = [registry]
  const events = new Counter({
    name: 'dvcr_webhook_events_total',
    help: 'Events that were delivered to a webhook, or dropped: too many waited, or too long.',
    labelNames: ['webhook', 'outcome'],
    registers,
  })
  const failures = new Counter({
    name: 'dvcr_webhook_failures_total',
    help: 'Requests to a webhook that were not answered with success.',
    labelNames: ['webhook'],
    registers,
  })
  const queues = new Map<string, () => number>()
  const waiting: Gauge<'webhook'> = new Gauge({
    name: 'dvcr_webhook_events_waiting',
    help: 'Events that are not delivered yet.',
    labelNames: ['webhook'],
    registers,
    collect() {
      for (const [webhook, count] of queues) waiting.set({ webhook }, count())
    },
  })
  return {
    ended: (webhook, outcome, count) => events.inc({ webhook, outcome }, count),
    failed: (webhook) => failures.inc({ webhook }),
    watchQueue: (webhook, count) => void queues.set(webhook, count),
  }
}
