import { array, assert, constantFrom, integer, property } from 'fast-check'
import { expect, test } from 'vitest'
import { nextInTurn, type Turn } from './next-in-turn.ts'

const named = (name: string, startedAt?: string): Turn => ({ name, startedAt })
const at = (second: number): string => new Date(second * 1000).toISOString()

test.each([
  ['nothing, where nothing waits', [], ['a'], [], undefined],
  ['the oldest of one prefix', ['a/1', 'a/2'], ['a/0'], [], 'a/1'],
  ['the oldest of prefixes that run as much', ['a/1', 'b/1'], ['a/0', 'b/0'], [], 'a/1'],
  ['that of the prefix that runs least', ['a/1', 'a/2', 'b/1'], ['a/0', 'c'], [], 'b/1'],
  ['that whose turn was longer ago', ['a/1', 'b/1'], [], [named('a/0', at(1))], 'b/1'],
  [
    'that whose last turn was longer ago, however often it had one',
    ['a/1', 'b/1'],
    [],
    [named('a/0', at(1)), named('b/0', at(2)), named('b/9', at(0)), named('a/0', at(3))],
    'b/1',
  ],
  ['a name without a slash by all of it', ['ab/1', 'a'], ['ab/2'], [named('ab/0', at(1))], 'a'],
])('next is %s', (_what, waiting, running, known, expected) => {
  const next = nextInTurn(
    waiting.map((name) => named(name)),
    running.map((name) => named(name)),
    known,
  )
  expect(next?.name).toBe(expected)
})

test('nobody waits for more than one turn of each other prefix, at any number of places', () => {
  const prefixes = array(constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 30 })
  assert(
    property(prefixes, integer({ min: 1, max: 4 }), (asked, places) => {
      const waiting = asked.map((prefix, index) => ({ name: `${prefix}/${index}` }))
      const running: Turn[] = []
      const known: Turn[] = []
      const order: string[] = []
      for (let now = 1; waiting.length > 0; now++) {
        // The oldest run ends.
        if (running.length === places) running.shift()
        const next = nextInTurn(waiting, running, known)
        if (!next) throw new Error('something waits')
        waiting.splice(waiting.indexOf(next), 1)
        running.push(next)
        known.push({ ...next, startedAt: at(now) })
        order.push(next.name.slice(0, 1))
      }
      expect(order.toSorted()).toEqual(asked.toSorted())
      const firsts = order.slice(0, new Set(asked).size)
      expect(new Set(firsts).size).toBe(firsts.length)
    }),
  )
})
