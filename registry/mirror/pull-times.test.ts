import { afterEach, beforeEach, expect, test } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { openTempStore, type TempStore } from '../../test/fixtures/temp-store.ts'
import { createPullTimes, type PulledManifest, type PullTimes } from './pull-times.ts'

const hour = 60 * 60 * 1000
const [one, two] = [digestOf(Buffer.from('one')), digestOf(Buffer.from('two'), 'sha512')]

let store: TempStore
let now: number
let pulls: PullTimes

beforeEach(async () => {
  store = await openTempStore()
  now = 1000 * hour + 1
  pulls = createPullTimes(store.objects, () => now)
})
afterEach(() => store[Symbol.asyncDispose]())

async function listed(prefix: string): Promise<PulledManifest[][]> {
  const found: PulledManifest[][] = []
  for await (const part of pulls.list(prefix)) found.push(part)
  return found
}

const keys = () => store.objects.list('v1/pulls/', {})

test('a pull is kept to the hour, with one object for each manifest', async () => {
  await pulls.add('hub/a', one)
  now += 2 * hour
  await pulls.note('hub/a', one)
  await pulls.note('hub/a', one)
  expect(await listed('hub')).toEqual([[{ name: 'hub/a', digest: one, pulledAt: 1002 * hour }]])
  expect(await keys()).toHaveLength(1)
})

test('the latest of several processes counts', async () => {
  const other = createPullTimes(store.objects, () => now + 5 * hour)
  await pulls.add('hub/a', one)
  await other.add('hub/a', one)
  now += hour
  await pulls.add('hub/a', one)
  expect(await listed('hub')).toMatchObject([[{ pulledAt: 1005 * hour }]])
  await pulls.forget('hub/a', one)
  expect(await keys()).toEqual([])
})

test('what was never added is not noted', async () => {
  await pulls.note('hub/a', one)
  expect(await keys()).toEqual([])
  expect(await pulls.has('hub/a', one)).toBe(false)
  await pulls.add('hub/a', one)
  expect(await pulls.has('hub/a', one)).toBe(true)
})

test('repositories below a prefix are listed one after the other', async () => {
  for (const name of ['hub/a', 'hub/a/b', 'hub/a/1', 'hubs/a', 'hub/b']) {
    await pulls.add(name, one)
    await pulls.add(name, two)
  }
  const found = await listed('hub')
  expect(found.map((part) => part.map(({ name }) => name))).toEqual(
    ['hub/a/1', 'hub/a', 'hub/a/b', 'hub/b'].map((name) => [name, name]),
  )
  expect(found.map((part) => part.map(({ digest }) => digest))).toEqual(found.map(() => [one, two]))
})
