import { setTimeout } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { CodedError } from '../../core/errors.ts'
import { eventLines } from './event-lines.ts'

async function textOf(
  events: AsyncIterable<unknown>,
  heartbeat = 10_000,
): Promise<{ readonly text: string; readonly failures: unknown[] }> {
  const failures: unknown[] = []
  let text = ''
  const options = { onFailure: (error: unknown) => failures.push(error), heartbeat }
  for await (const line of eventLines(events, options)) text += Buffer.from(line).toString()
  return { text, failures }
}

it('are one line of JSON for each event', async () => {
  async function* events() {
    yield { a: 'x\ny' }
    yield { b: 1 }
  }
  expect(await textOf(events())).toEqual({ text: '{"a":"x\\ny"}\n{"b":1}\n', failures: [] })
})

it('tell of a failure in the middle, and throw one before the first event', async () => {
  const failure = new CodedError('STORAGE_FULL', 'no room')
  async function* events(count: number) {
    for (let i = 0; i < count; i++) yield i
    throw failure
  }
  await expect(textOf(events(0))).rejects.toBe(failure)
  expect(await textOf(events(1))).toEqual({
    text: '0\n{"error":{"code":"STORAGE_FULL","message":"no room"}}\n',
    failures: [failure],
  })
})

it('say nothing of the cause of a fault of ours', async () => {
  async function* events() {
    yield 0
    throw new Error('secret')
  }
  expect((await textOf(events())).text).toBe(
    '0\n{"error":{"code":"UNKNOWN","message":"internal error"}}\n',
  )
})

it('give signs of life while nothing happens, after the first event only', async () => {
  async function* events() {
    await setTimeout(50)
    yield 1
    await setTimeout(50)
    yield 2
  }
  const { text } = await textOf(events(), 10)
  expect(text).toMatch(/^1\n\n+2\n$/)
})

it('end the work where their reader goes', async () => {
  let isEnded = false
  async function* events() {
    try {
      for (;;) yield 1
    } finally {
      isEnded = true
    }
  }
  for await (const _ of eventLines(events(), { onFailure: () => {} })) break
  expect(isEnded).toBe(true)
})
