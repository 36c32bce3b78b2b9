import { CodedError } from './errors.ts'

/** Runs what it is given, so much of it at a time, in the order it came. */
export type Gate = <T>(work: () => Promise<T>) => Promise<T>

/**
 * Lets `atOnce` calls run at a time and `waiting` more wait for their turn; then it throws
 * TOOMANYREQUESTS. `what`: what is too much, as the message says it.
 */
export function createGate({
  atOnce,
  waiting,
  what,
}: {
  readonly atOnce: number
  readonly waiting: number
  readonly what: string
}): Gate {
  let running = 0
  const queue: (() => void)[] = []
  return async (work) => {
    if (running >= atOnce) {
      if (queue.length >= waiting) {
        throw new CodedError('TOOMANYREQUESTS', `too many ${what}; try again`, {
          detail: { retryAfterSeconds: 2 },
        })
      }
      await new Promise<void>((resolve) => queue.push(resolve))
    } else running += 1
    try {
      return await work()
    } finally {
      const next = queue.shift()
      if (next) next()
      else running -= 1
    }
  }
}
