/** Runs at most so many tasks at a time. Disposal waits for those at work, however they end. */
export interface Tasks extends AsyncDisposable {
  /** Waits for a place, starts the task and goes on; throws what an earlier one has failed with. */
  start(task: () => Promise<void>): Promise<void>
  /** Waits for all of them; throws what one has failed with. */
  done(): Promise<void>
}

export function createTasks(atOnce: number): Tasks {
  const running = new Set<Promise<void>>()
  let failure: { readonly error: unknown } | undefined

  function throwFailure(): void {
    if (failure) throw failure.error
  }

  return {
    async start(task) {
      while (running.size >= atOnce) await Promise.race(running)
      throwFailure()
      const run = task()
        .catch((error: unknown) => void (failure ??= { error }))
        .finally(() => running.delete(run))
      running.add(run)
    },
    async done() {
      await Promise.all(running)
      throwFailure()
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(running)
    },
  }
}
