/**
 * Sessions that wait for their client's next request. Each pause ends after `afterMs`, and the
 * longest one at once where more than `most` wait: what waits keeps files open.
 */
export interface Pauses {
  /** Calls `onEnd` once at the end of the pause; a pause of that `id` before it is forgotten. */
  start(id: string, onEnd: () => void): void
  /** The client goes on: its pause is forgotten. */
  stop(id: string): void
}

export function createPauses({
  afterMs,
  most,
}: {
  readonly afterMs: number
  readonly most: number
}): Pauses {
  const waiting = new Map<string, { readonly timer: NodeJS.Timeout; readonly onEnd: () => void }>()

  function stop(id: string): void {
    clearTimeout(waiting.get(id)?.timer)
    waiting.delete(id)
  }

  function end(id: string): void {
    const pause = waiting.get(id)
    stop(id)
    pause?.onEnd()
  }

  return {
    start(id, onEnd) {
      stop(id)
      waiting.set(id, { timer: setTimeout(() => end(id), afterMs).unref(), onEnd })
      const [longest] = waiting.keys()
      if (waiting.size > most && longest !== undefined) end(longest)
    },
    stop,
  }
}
