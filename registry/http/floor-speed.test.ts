import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createPace, type FloorSpeed, type Pace } from './floor-speed.ts'

const speed: FloorSpeed = { stallLimitMs: 10_000, bytesPerSecond: 1000 }

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** A pace and when, in ms, it found the other side too slow. */
function watched(limits: FloorSpeed) {
  let cutAt: number | undefined
  const started = performance.now()
  const pace = createPace(limits, () => (cutAt = performance.now() - started))
  return { pace, cutAt: () => cutAt }
}

/** The other side needs `ms` for `bytes`. */
function receive(pace: Pace, ms: number, bytes: number): void {
  pace.begin(0)
  vi.advanceTimersByTime(ms)
  pace.end(bytes)
}

describe('a sender', () => {
  it('that stands still is cut after the stall limit', () => {
    const { pace, cutAt } = watched(speed)
    pace.begin(0)
    vi.advanceTimersByTime(60_000)
    expect(cutAt()).toBeGreaterThan(10_000)
    expect(cutAt()).toBeLessThanOrEqual(12_500)
  })

  it('that drips is cut about as soon', () => {
    const { pace, cutAt } = watched(speed)
    for (let second = 0; second < 60; second += 1) receive(pace, 1000, 1)
    expect(cutAt()).toBeLessThan(13_500)
  })

  it('that keeps the speed on average may pause for less than the limit, for ever', () => {
    const { pace, cutAt } = watched(speed)
    for (let round = 0; round < 1000; round += 1) {
      receive(pace, 8000, 0)
      receive(pace, 1000, 9000)
    }
    expect(cutAt()).toBeUndefined()
  })

  it('at half of the speed is cut when it is behind by the limit', () => {
    const { pace, cutAt } = watched(speed)
    for (let second = 0; second < 60; second += 1) receive(pace, 1000, 500)
    expect(cutAt()).toBeGreaterThan(18_000)
    expect(cutAt()).toBeLessThan(24_000)
  })

  it('cannot save up: what it sent fast before does not let it stand still for longer', () => {
    const { pace, cutAt } = watched(speed)
    receive(pace, 1000, 1_000_000_000)
    pace.begin(0)
    vi.advanceTimersByTime(60_000)
    expect(cutAt()).toBeLessThan(14_000)
  })

  it('is not blamed for the time that we need', () => {
    const { pace, cutAt } = watched(speed)
    for (let round = 0; round < 10; round += 1) {
      receive(pace, 1, 1)
      vi.advanceTimersByTime(100_000)
    }
    expect(cutAt()).toBeUndefined()
  })

  it('may be as slow as it likes without a floor, but not stand still', () => {
    const { pace, cutAt } = watched({ ...speed, bytesPerSecond: 0 })
    for (let round = 0; round < 100; round += 1) receive(pace, 9000, 1)
    expect(cutAt()).toBeUndefined()
    receive(pace, 20_000, 1)
    expect(cutAt()).toBeGreaterThan(900_000)
  })
})

describe('a receiver', () => {
  it('has the time for a chunk that the floor speed needs, and the limit besides', () => {
    const { pace, cutAt } = watched(speed)
    for (let chunk = 0; chunk < 10; chunk += 1) {
      pace.begin(1_000_000)
      vi.advanceTimersByTime(999_000)
      pace.end(0)
    }
    expect(cutAt()).toBeUndefined()
    pace.begin(1_000_000)
    vi.advanceTimersByTime(1_020_000)
    expect(cutAt()).toBeGreaterThan(10 * 999_000 + 1_000_000)
  })
})

it('nothing is cut once the transfer is over', () => {
  const { pace, cutAt } = watched(speed)
  pace.begin(0)
  pace[Symbol.dispose]()
  vi.advanceTimersByTime(60_000)
  expect(cutAt()).toBeUndefined()
})
