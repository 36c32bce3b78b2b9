import type { Log } from '../../core/log.ts'
import type { Scrub } from './scrub.ts'

/** A pass begins so long after the one before began. */
const passEveryMs = 7 * 24 * 60 * 60 * 1000
const lookEveryMs = 60_000

/** Scrubs the store all the time, slowly: a pass, and the next one a week after its start. */
export interface Scrubbing extends AsyncDisposable {
  /** Bytes per second from now on; 0 stops. */
  apply(bytesPerSecond: number): void
}

/** Several processes may do it on one store: one of them is at work at a time. */
export function createScrubbing(
  scrub: Scrub,
  { log, everyMs = lookEveryMs }: { readonly log: Log; readonly everyMs?: number },
): Scrubbing {
  let stop = new AbortController()
  let working: Promise<void> = Promise.resolve()
  let timer: NodeJS.Timeout | undefined
  let isWorking = false

  async function runWhereDue(bytesPerSecond: number, { signal }: AbortController): Promise<void> {
    const { running, pass } = await scrub.state()
    const isFresh =
      pass?.finishedAt !== undefined && Date.parse(pass.startedAt) + passEveryMs > Date.now()
    if (running || isFresh) return
    for await (const event of scrub.run({ bytesPerSecond, signal })) {
      if ('report' in event) log.info({ scrub: event.report }, 'scrubbed the store')
    }
  }

  function start(bytesPerSecond: number, stopping: AbortController): void {
    if (isWorking) return
    isWorking = true
    working = runWhereDue(bytesPerSecond, stopping)
      .catch((error: unknown) => {
        if (!stopping.signal.aborted) log.warn({ err: error }, 'scrubbing stopped; tried again')
      })
      .finally(() => (isWorking = false))
  }

  function halt(): void {
    clearInterval(timer)
    stop.abort()
  }

  return {
    apply(bytesPerSecond) {
      halt()
      if (bytesPerSecond === 0) return
      const stopping = new AbortController()
      stop = stopping
      timer = setInterval(() => start(bytesPerSecond, stopping), everyMs).unref()
    },
    async [Symbol.asyncDispose]() {
      halt()
      await working
    },
  }
}
