import { setTimeout as sleep } from 'node:timers/promises'

const mostWorkMs = 20

/** Called between two pieces of work; after 20 ms of them it rests for as long. */
export type Rest = () => Promise<void>

/**
 * One worker's rests: pushes and pulls have half of the time for themselves, however much there is
 * to collect.
 */
export function createRest(): Rest {
  let startedAt = performance.now()
  return async () => {
    const workedMs = performance.now() - startedAt
    if (workedMs < mostWorkMs) return
    await sleep(workedMs)
    startedAt = performance.now()
  }
}
