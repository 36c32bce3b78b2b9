import { CodedError } from '../../core/errors.ts'

/** How slow a source may be. */
export interface FloorSpeed {
  /** Below it a connection counts as broken; 0: any speed will do. */
  readonly bytesPerSecond: number
  /** Over how much waiting it is measured; no byte for so long is a broken connection, too. */
  readonly windowMs: number
}

export const defaultFloorSpeed: FloorSpeed = { bytesPerSecond: 1024, windowMs: 60_000 }

/** Measures the time that a reader waits, over all connections; what it does itself is its own. */
export interface SpeedMeter {
  /** From now on the reader waits, if it does not already. */
  wait(): void
  /** Bytes have come. `undefined` as long as it was not waited for a whole window. */
  got(bytes: number): 'slow' | 'fine' | undefined
}

export function createSpeedMeter({ bytesPerSecond, windowMs }: FloorSpeed): SpeedMeter {
  let sinceMs: number | undefined
  let waitedMs = 0
  let bytes = 0
  return {
    wait: () => void (sinceMs ??= performance.now()),
    got(size) {
      if (sinceMs !== undefined) waitedMs += performance.now() - sinceMs
      sinceMs = undefined
      bytes += size
      if (waitedMs < windowMs) return undefined
      const isSlow = bytes * 1000 < bytesPerSecond * waitedMs
      waitedMs = 0
      bytes = 0
      return isSlow ? 'slow' : 'fine'
    },
  }
}

export function tooSlow(label: string, { bytesPerSecond, windowMs }: FloorSpeed): CodedError {
  return new CodedError(
    'SOURCE_UNAVAILABLE',
    `${label} sends fewer than ${bytesPerSecond} bytes per second over ${windowMs / 1000} seconds`,
  )
}
