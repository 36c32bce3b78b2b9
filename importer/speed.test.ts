import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { createSpeed } from './speed.ts'

test('there is no speed before there are two moments', () => {
  const speed = createSpeed()
  expect([speed.bytesPerSecond, speed.etaMs(100)]).toEqual([0, undefined])
  speed.add(1000, 50)
  expect([speed.bytesPerSecond, speed.etaMs(100)]).toEqual([0, undefined])
})

test('a steady stream has its speed and the time that is left', () => {
  const speed = createSpeed()
  for (let second = 0; second <= 20; second++) speed.add(second * 1000, second * 1000)
  expect(speed.bytesPerSecond).toBe(1000)
  expect(speed.etaMs(30_000)).toBe(10_000)
  expect(speed.etaMs(undefined)).toBeUndefined()
  // A server may send more than it said.
  expect(speed.etaMs(10)).toBe(0)
})

test('only the last seconds count', () => {
  const speed = createSpeed()
  for (let second = 0; second <= 60; second++) speed.add(second * 1_000_000, second * 1000)
  for (let second = 1; second <= 10; second++)
    speed.add(60_000_000 + second * 10, 60_000 + second * 1000)
  expect(speed.bytesPerSecond).toBe(10)
})

test('a speed is never negative, endless or not a number', () => {
  const step = fc.tuple(fc.nat(1_000_000), fc.nat(3000))
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.option(fc.nat()), (steps, total) => {
      const speed = createSpeed()
      let bytes = 0
      let nowMs = 1_000_000
      for (const [more, waitMs] of steps) {
        speed.add((bytes += more), (nowMs += waitMs))
        expect(speed.bytesPerSecond).toBeGreaterThanOrEqual(0)
        expect(Number.isFinite(speed.bytesPerSecond)).toBe(true)
        expect(speed.etaMs(total ?? undefined) ?? 0).toBeGreaterThanOrEqual(0)
      }
    }),
  )
})
