import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { Log } from '../../core/log.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import type { DataStore } from '../data-store.ts'
import { encodeJson } from '../records.ts'
import type { ImmutableRule, RetentionRule } from '../retention.ts'
import { createIsImmutable } from '../retention.ts'
import { readVersioned, swap } from '../versioned.ts'
import { createCollector, type Collector, type CollectorParts } from './collector.ts'
import { createReadReferences } from './references.ts'
import { sweep, type SweepReport } from './sweep.ts'

const leaderKey = 'v1/gc/leader.json'
const lastKey = 'v1/gc/last.json'
const leaderRecord = z.object({ holder: z.uuid(), until: z.iso.datetime() })

export interface GcOptions {
  /** Ms that a blob nobody refers to is kept after its push. */
  readonly orphanGraceMs: number
  /** Ms between sweeps of the whole store, of all processes together; Infinity: only when asked. */
  readonly sweepEveryMs: number
  /** Ms from condemning to the end; a minute but for tests. */
  readonly graceMs?: number
  readonly retention: readonly RetentionRule[]
  readonly immutable: readonly ImmutableRule[]
}

export interface GcState {
  readonly running: boolean
  /** Things that wait to be looked at, most of them for the end of a grace. */
  readonly pending: number
  /** Blobs and bytes removed by this process. */
  readonly freedBlobs: number
  readonly freedBytes: number
  /** The last finished sweep of any process. */
  readonly last: unknown
}

/** Garbage collection of one process; safe with any number of others at work on the same store. */
export interface Gc extends AsyncDisposable {
  readonly collector: Collector
  /** Sweeps the whole store now; one sweep at a time, a second caller gets the first one's. */
  run(options: { readonly dryRun: boolean }): Promise<SweepReport>
  state(): Promise<GcState>
  /** Resolves when all that was found has been removed or was kept. */
  drained(): Promise<void>
}

export interface GcParts {
  readonly objects: ObjectStore
  readonly data: Pick<DataStore, 'delete'>
  readonly accounts: CollectorParts['accounts']
  readonly log: Log
}

export function createGc(
  { objects, data, accounts, log }: GcParts,
  { orphanGraceMs, sweepEveryMs, graceMs, retention, immutable }: GcOptions,
): Gc {
  const holder = randomUUID()
  const stopping = new AbortController()
  const readReferences = createReadReferences(objects)
  let freedBlobs = 0
  let freedBytes = 0
  let running: Promise<SweepReport> | undefined

  const collector = createCollector({
    objects,
    data,
    readReferences,
    accounts,
    log,
    orphanGraceMs,
    ...(graceMs === undefined ? {} : { graceMs }),
    onFreed(bytes) {
      freedBlobs++
      freedBytes += bytes
    },
  })

  async function runNow(dryRun: boolean): Promise<SweepReport> {
    const isImmutable = createIsImmutable(immutable)
    const parts = { objects, log, readReferences, collector, orphanGraceMs, retention, isImmutable }
    const report = await sweep(parts, { dryRun, signal: stopping.signal })
    if (!dryRun) await objects.put(lastKey, encodeJson(report), 'always')
    log.info({ gc: report }, dryRun ? 'looked for garbage' : 'collected garbage')
    return report
  }

  /** True where this process is to sweep now: nobody else has done so within the interval. */
  async function takesLead(): Promise<boolean> {
    const current = await readVersioned(objects, leaderRecord, leaderKey)
    if (current && Date.parse(current.record.until) > Date.now()) return false
    const until = new Date(Date.now() + sweepEveryMs).toISOString()
    return (await swap(objects, leaderKey, { holder, until }, current)) !== undefined
  }

  async function sweepInTurn(): Promise<void> {
    try {
      if (await takesLead()) await run({ dryRun: false })
    } catch (error) {
      if (!stopping.signal.aborted) log.warn({ err: error }, 'cannot collect garbage; tried again')
    }
  }

  function run({ dryRun }: { readonly dryRun: boolean }): Promise<SweepReport> {
    running ??= runNow(dryRun).finally(() => (running = undefined))
    return running
  }

  const isPeriodic = Number.isFinite(sweepEveryMs)
  const timer = isPeriodic
    ? setInterval(() => void sweepInTurn(), Math.min(sweepEveryMs, 60_000)).unref()
    : undefined

  return {
    collector,
    run,
    async state() {
      const stored = await objects.get(lastKey)
      const last: unknown = stored && JSON.parse(Buffer.from(stored.bytes).toString())
      const isRunning = running !== undefined
      return { running: isRunning, pending: collector.pendingCount, freedBlobs, freedBytes, last }
    },
    drained: () => collector.drained(),
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      stopping.abort()
      await Promise.allSettled([running])
      await collector[Symbol.asyncDispose]()
    },
  }
}
