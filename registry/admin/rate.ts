import { setTimeout } from 'node:timers/promises'

/** Waits that are shorter are put together: timers are not that exact. */
const shortestWaitMs = 20
/** What was not used for so long is lost. */
const burstMs = 1000

/** Keeps an average of `bytesPerSecond` over what it is told of; Infinity: never waits. */
export function createRate(
  bytesPerSecond: number,
  signal: AbortSignal,
): (bytes: number) => Promise<void> {
  let dueMs = performance.now()
  return async (bytes) => {
    const nowMs = performance.now()
    dueMs = Math.max(dueMs, nowMs - burstMs) + (bytes / bytesPerSecond) * 1000
    if (dueMs - nowMs >= shortestWaitMs) await setTimeout(dueMs - nowMs, undefined, { signal })
  }
}
