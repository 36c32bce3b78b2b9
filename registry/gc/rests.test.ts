import { describe, expect, it } from 'vitest'
import { createRest } from './rests.ts'

function work(ms: number): number {
  const from = performance.now()
  while (performance.now() - from < ms);
  return performance.now() - from
}

describe('rests of the collector', () => {
  it('take as long as its work, and little work goes on without one', async () => {
    const rest = createRest()
    const none = performance.now()
    await rest()
    const withoutMs = performance.now() - none
    const workedMs = work(60)
    const from = performance.now()
    await rest()
    // A timer may be a millisecond early.
    expect(performance.now() - from).toBeGreaterThanOrEqual(workedMs - 2)
    expect(withoutMs).toBeLessThan(workedMs)
  })
})
