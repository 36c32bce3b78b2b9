import { createRest } from './rests.ts'

/** Does one look; answers when to look again (ms of `Date.now()`), `undefined`: never. */
export type Job = () => Promise<number | undefined>

/** Jobs by name, each at its time; a job that fails is tried again later. */
export interface JobQueue extends AsyncDisposable {
  /** Adds a job; one of that name that is waiting already keeps its place. */
  add(name: string, due: number, job: Job): void
  readonly size: number
  /** Resolves when it is empty. */
  drained(): Promise<void>
}

const retryMs = 15_000
/** Jobs due within so long are taken together, at most so many. */
const batchMs = 250
const batchSize = 256

export function createJobQueue({
  concurrency,
  onFailure,
}: {
  readonly concurrency: number
  readonly onFailure: (error: unknown, name: string) => void
}): JobQueue {
  const jobs = new Map<string, { due: number; readonly job: Job }>()
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> | undefined
  let ended = false
  let waiters: (() => void)[] = []

  function plan(): void {
    if (ended || running) return
    clearTimeout(timer)
    if (jobs.size === 0) {
      for (const wake of waiters.splice(0)) wake()
      return
    }
    let earliest = Infinity
    for (const { due } of jobs.values()) earliest = Math.min(earliest, due)
    const wait = Math.max(jobs.size > batchSize ? 0 : batchMs, earliest - Date.now())
    timer = setTimeout(start, Math.min(wait, 60_000)).unref()
  }

  function start(): void {
    running = runDue().finally(() => {
      running = undefined
      plan()
    })
  }

  async function runDue(): Promise<void> {
    const now = Date.now()
    const due = [...jobs].filter(([, job]) => job.due <= now)
    // The longest waiting first, so that one large deletion does not hold up a small one for good.
    const next = due
      .sort(([, a], [, b]) => a.due - b.due)
      .slice(0, batchSize)
      .values()
    const worker = async (): Promise<void> => {
      const rest = createRest()
      for (const [name, entry] of next) {
        if (ended) return
        await runOne(name, entry)
        await rest()
      }
    }
    await Promise.all(Array.from({ length: concurrency }, worker))
  }

  async function runOne(name: string, entry: { due: number; readonly job: Job }): Promise<void> {
    try {
      const again = await entry.job()
      if (again === undefined) jobs.delete(name)
      else entry.due = again
    } catch (error) {
      onFailure(error, name)
      entry.due = Date.now() + retryMs
    }
  }

  return {
    add(name, due, job) {
      if (jobs.has(name)) return
      jobs.set(name, { due, job })
      plan()
    },
    get size() {
      return jobs.size
    },
    async drained() {
      if (jobs.size === 0 && !running) return
      await new Promise<void>((resolve) => waiters.push(resolve))
    },
    async [Symbol.asyncDispose]() {
      ended = true
      clearTimeout(timer)
      await running
      for (const wake of waiters.splice(0)) wake()
      waiters = []
    },
  }
}
