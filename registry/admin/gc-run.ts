import { setTimeout } from 'node:timers/promises'
import { z } from 'zod'
import type { Gc } from '../gc/gc.ts'
import type { SweepReport } from '../gc/sweep.ts'

const sweepReport: z.ZodType<SweepReport> = z.object({
  dryRun: z.boolean(),
  startedAt: z.string(),
  finishedAt: z.string(),
  repositories: z.int(),
  failedRepositories: z.int(),
  links: z.int(),
  blobs: z.int(),
  unreferencedLinks: z.int(),
  unreferencedBytes: z.int(),
  unlinkedBlobs: z.int(),
  unlinkedBytes: z.int(),
  orphanReferences: z.int(),
  danglingTags: z.int(),
  unfinishedManifests: z.int(),
  expiredTags: z.int(),
  expiredManifests: z.int(),
})

/** What waits to be looked at in the process that answers, and what it has removed since its start. */
export const gcState = z.object({
  running: z.boolean(),
  pending: z.int(),
  freedBlobs: z.int(),
  freedBytes: z.int(),
  /** Of any process. */
  last: sweepReport.optional(),
})
export type GcStateFacts = z.output<typeof gcState>

/** `report`, once the store was looked through; `state`, now and then while it is waited for. */
export const gcEvent = z.union([z.object({ report: sweepReport }), z.object({ state: gcState })])
export type GcEvent = z.output<typeof gcEvent>

export interface GcRunOptions {
  readonly dryRun: boolean
  /** Until all that waits is removed or kept; most of it waits a minute. */
  readonly wait: boolean
  readonly signal: AbortSignal
}

const stateEveryMs = 1000

/** Looks for garbage now. */
export async function* runGc(
  gc: Gc,
  { dryRun, wait, signal }: GcRunOptions,
): AsyncGenerator<GcEvent, void> {
  let report = await gc.run({ dryRun })
  // Somebody else only looks, and this got the report of that.
  while (report.dryRun && !dryRun) report = await gc.run({ dryRun })
  yield { report }
  if (dryRun) return
  for (;;) {
    const state = await readGcState(gc)
    yield { state }
    if (!wait || state.pending === 0) return
    await Promise.race([gc.drained(), setTimeout(stateEveryMs, undefined, { signal })])
  }
}

export async function readGcState(gc: Gc): Promise<GcStateFacts> {
  return gcState.parse(await gc.state())
}
