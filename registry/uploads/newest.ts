/** Says to the one at work that a newer one waits. */
export interface Interruption {
  /** Like `promise`, but rejects with `reason` as soon as a newer one waits. */
  unless<T>(promise: Promise<T>): Promise<T>
}

/**
 * Runs one action at a time. A new one interrupts the one at work and starts when that has ended;
 * of several that wait only the newest starts, the others reject with `reason()`.
 */
export function createNewest(reason: () => Error): {
  run<T>(action: (interruption: Interruption) => Promise<T>): Promise<T>
  /** Waits for the one at work. */
  settled(): Promise<void>
} {
  let newest: object | undefined
  let running: Promise<unknown> | undefined
  let interrupt = (): void => {}

  function createInterruption(me: object): Interruption {
    return {
      unless<T>(promise: Promise<T>) {
        return new Promise<T>((resolve, reject) => {
          interrupt = () => reject(reason())
          if (newest !== me) interrupt()
          promise.then(resolve, reject)
        })
      },
    }
  }

  return {
    async run(action) {
      const me = {}
      newest = me
      interrupt()
      while (running) await running.catch(() => {})
      if (newest !== me) throw reason()
      const started = action(createInterruption(me))
      const ended = started.finally(() => {
        if (running === ended) running = undefined
      })
      running = ended
      return ended
    },
    async settled() {
      await running?.catch(() => {})
    },
  }
}
