import { Counter, Gauge, type Registry } from '@prometheus-io/client'
import type { Log } from '../../core/log.ts'
import type { Admin } from './admin.ts'

type Facts = Awaited<ReturnType<typeof readFacts>>

async function readFacts({ gc, scrub, quotas }: Admin) {
  return { gc: await gc.state(), scrub: await scrub.state(), quotas: await quotas.list() }
}

/** All metrics of one answer come from one look. */
const sameLookMs = 1000

/** Adds what the store says of itself to `registry`; it is asked when the metrics are read. */
export function watchStore(registry: Registry, admin: Admin, log: Log): void {
  const registers = [registry]
  let last: { readonly facts: Promise<Facts | undefined>; readonly at: number } | undefined

  /** `undefined` where the storage fails: the other metrics are needed then all the more. */
  function look(): Promise<Facts | undefined> {
    const now = performance.now()
    if (last && now - last.at < sameLookMs) return last.facts
    const facts = readFacts(admin).catch((error: unknown) => {
      log.warn({ err: error }, 'cannot read the state of the store for the metrics')
      return undefined
    })
    last = { facts, at: now }
    return facts
  }

  function gauge(name: string, help: string, value: (facts: Facts) => number): void {
    const metric: Gauge = new Gauge({
      name,
      help,
      registers,
      async collect() {
        const facts = await look()
        if (facts) metric.set(value(facts))
      },
    })
  }

  /** `value` only grows while the process lives. */
  function counter(name: string, help: string, value: (facts: Facts) => number): void {
    let known = 0
    const metric: Counter = new Counter({
      name,
      help,
      registers,
      async collect() {
        const facts = await look()
        const now = facts ? value(facts) : known
        metric.inc(Math.max(0, now - known))
        known = Math.max(known, now)
      },
    })
  }

  function quotaGauge(
    name: string,
    help: string,
    value: (quota: Facts['quotas'][number]) => number,
  ): void {
    const metric: Gauge<'prefix'> = new Gauge({
      name,
      help,
      labelNames: ['prefix'],
      registers,
      async collect() {
        for (const quota of (await look())?.quotas ?? []) {
          metric.set({ prefix: quota.prefix }, value(quota))
        }
      },
    })
  }

  gauge(
    'dvcr_gc_pending',
    'Things that wait for the collector of this process.',
    ({ gc }) => gc.pending,
  )
  gauge(
    'dvcr_gc_last_sweep_timestamp_seconds',
    'When the whole store was last searched for garbage, as Unix time; 0: never.',
    ({ gc }) => (gc.last ? Date.parse(gc.last.finishedAt) / 1000 : 0),
  )
  counter(
    'dvcr_gc_freed_blobs_total',
    'Blobs that this process has removed.',
    ({ gc }) => gc.freedBlobs,
  )
  counter(
    'dvcr_gc_freed_bytes_total',
    'Bytes of the blobs that this process has removed.',
    ({ gc }) => gc.freedBytes,
  )
  gauge(
    'dvcr_scrub_progress_ratio',
    'How far the last scrub of the store is, of 1.',
    ({ scrub }) => scrub.pass?.share ?? 0,
  )
  gauge(
    'dvcr_scrub_bytes',
    'Bytes that the last scrub of the store has read.',
    ({ scrub }) => scrub.pass?.bytes ?? 0,
  )
  gauge(
    'dvcr_scrub_damaged_blobs',
    'Blobs that the last scrub of the store took out of service or could not read.',
    ({ scrub: { pass } }) => (pass ? pass.damaged + pass.unreadable : 0),
  )
  quotaGauge(
    'dvcr_quota_used_bytes',
    'Bytes that count against a quota, uploads on their way included.',
    ({ usedBytes, heldBytes }) => usedBytes + heldBytes,
  )
  quotaGauge('dvcr_quota_limit_bytes', 'Limit of a quota.', ({ limitBytes }) => limitBytes)
}
