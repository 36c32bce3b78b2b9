import { expect, test, vi } from 'vitest'
import { retried } from './retry.ts'

const never = new AbortController().signal
const fail = (times: number) => {
  let left = times
  return vi.fn<() => Promise<string>>(async () => {
    if (left-- > 0) throw new Error(`failure ${times - left}`)
    return 'done'
  })
}

test('an attempt that fails is repeated once per delay, and the last failure is told', async () => {
  const options = { delaysMs: [1, 1], signal: never, shouldRetry: () => true }
  const passing = fail(2)
  expect(await retried(passing, options)).toBe('done')
  expect(passing).toHaveBeenCalledTimes(3)
  await expect(retried(fail(3), options)).rejects.toThrow('failure 3')
})

test('a failure that will not pass is told at once', async () => {
  const attempt = fail(1)
  const options = { delaysMs: [1, 1], signal: never, shouldRetry: () => false }
  await expect(retried(attempt, options)).rejects.toThrow('failure 1')
  expect(attempt).toHaveBeenCalledOnce()
})

test('an abort ends the wait with its own reason', async () => {
  const stop = new AbortController()
  const options = { delaysMs: [60_000], signal: stop.signal, shouldRetry: () => true }
  const running = retried(fail(1), options)
  stop.abort(new Error('enough'))
  await expect(running).rejects.toThrow('enough')
})
