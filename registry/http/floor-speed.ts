/** How slow a client may be before its connection is cut. */
export interface FloorSpeed {
  /** It may stand still for so long. */
  readonly stallLimitMs: number
  /** And must move so much on average; 0 asks for nothing. */
  readonly bytesPerSecond: number
}

/** Judges one transfer by the time that was spent waiting for the other side, never by ours. */
export interface Pace extends Disposable {
  /** From now on the other side is waited for; it is to take `bytes`, 0 where it sends. */
  begin(bytes: number): void
  /** It moved; `bytes` that it sent, 0 where it took what `begin` said. */
  end(bytes: number): void
}

/** Ticks within `stallLimitMs`: a transfer is cut at most so much of it too late. */
const ticksPerLimit = 8

/**
 * Calls `tooSlow` once where the other side is slower than `speed`. Every transfer starts with the
 * stall limit as its credit. Waiting uses it up, bytes bring it back at the floor speed, never to
 * more than at the start: so a client that keeps the floor speed on average is never cut, one that
 * stands still after the stall limit, and one that drips as soon as it is behind by that.
 */
export function createPace(
  { stallLimitMs, bytesPerSecond }: FloorSpeed,
  tooSlow: () => void,
): Pace {
  let creditMs = stallLimitMs
  let waitingSince: number | undefined
  const worthMs = (bytes: number): number =>
    bytes === 0 ? 0 : bytesPerSecond === 0 ? Infinity : (bytes * 1000) / bytesPerSecond
  const timer = setInterval(() => {
    if (waitingSince === undefined || performance.now() - waitingSince <= creditMs) return
    clearInterval(timer)
    tooSlow()
  }, stallLimitMs / ticksPerLimit)
  timer.unref()
  return {
    begin(bytes) {
      creditMs += worthMs(bytes)
      waitingSince = performance.now()
    },
    end(bytes) {
      const waited = waitingSince === undefined ? 0 : performance.now() - waitingSince
      waitingSince = undefined
      creditMs = Math.min(stallLimitMs, creditMs - waited + worthMs(bytes))
    },
    [Symbol.dispose]: () => clearInterval(timer),
  }
}
