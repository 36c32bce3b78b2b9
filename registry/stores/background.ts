/** What goes on beside the calls of one owner: the first failure ends all of it. */
export interface Background {
  /** Aborted with the reason of the first failure, and by `stop`. */
  readonly signal: AbortSignal
  /** Starts `task`; the answer resolves when it has ended, well or not. */
  run(task: () => Promise<void>): Promise<void>
  /** Something that `until` may wait for has changed. */
  changed(): void
  /** Rejects with the first failure, before as well as while waiting. */
  until(isTrue: () => boolean): Promise<void>
  /** Ends all tasks and waits for them. */
  stop(): Promise<void>
}

export function createBackground(): Background {
  const ending = new AbortController()
  const tasks = new Set<Promise<void>>()
  let failure: { readonly reason: unknown } | undefined
  let change = Promise.withResolvers<void>()

  function changed(): void {
    change.resolve()
    change = Promise.withResolvers<void>()
  }
  function fail(reason: unknown): void {
    failure ??= { reason }
    ending.abort(reason)
    changed()
  }

  return {
    signal: ending.signal,
    run(task) {
      const running = task()
        .catch(fail)
        .finally(() => {
          tasks.delete(running)
          changed()
        })
      tasks.add(running)
      return running
    },
    changed,
    async until(isTrue) {
      for (;;) {
        if (failure) throw failure.reason
        if (isTrue()) return
        await change.promise
      }
    },
    async stop() {
      fail(new Error('stopped'))
      while (tasks.size > 0) await Promise.all(tasks)
    },
  }
}

/** Runs `action` one at a time; callers that come while it runs share the next run. */
export function createShared(action: () => Promise<void>): () => Promise<void> {
  let running: Promise<unknown> = Promise.resolve()
  let next: Promise<void> | undefined
  return () => {
    if (!next) {
      const start = (): Promise<void> => {
        next = undefined
        return action()
      }
      next = running.then(start, start)
      running = next
    }
    return next
  }
}
