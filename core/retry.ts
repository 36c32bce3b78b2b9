import { setTimeout as sleep } from 'node:timers/promises'

export interface RetryOptions {
  /** Waits between attempts, ms; there is one more attempt than entries. */
  readonly delaysMs: readonly number[]
  readonly signal: AbortSignal
  /** Asked after each failure but the last: whether it may pass. */
  readonly shouldRetry: (error: unknown) => boolean
}

/** The first attempt that succeeds, or the last failure; an abort between ends it with its reason. */
export async function retried<T>(
  attempt: () => Promise<T>,
  { delaysMs, signal, shouldRetry }: RetryOptions,
): Promise<T> {
  for (const delayMs of delaysMs) {
    try {
      return await attempt()
    } catch (error) {
      if (!shouldRetry(error)) throw error
    }
    await pause(delayMs, signal)
  }
  return attempt()
}

/** Rejects with the signal's own reason. */
export async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  await sleep(delayMs, undefined, { signal }).catch(() => signal.throwIfAborted())
}
