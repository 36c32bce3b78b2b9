import { CodedError } from '../../core/errors.ts'

/** What one request holds; disposing it gives all of it back. */
export interface BodyHold extends Disposable {
  /** Holds so many bytes more; throws TOOMANYREQUESTS where all requests together hold too much. */
  take(bytes: number): void
}

/**
 * The memory of all bodies that are read as a whole, `limitBytes` together. It counts what has
 * arrived, not what was announced: who sends nothing takes nothing from the others.
 */
export interface BodyMemory {
  hold(): BodyHold
}

export function createBodyMemory(limitBytes: number): BodyMemory {
  let used = 0
  return {
    hold() {
      let own = 0
      return {
        take(bytes) {
          if (used + bytes > limitBytes) {
            throw new CodedError(
              'TOOMANYREQUESTS',
              `bodies of ${limitBytes} bytes together are being read; try again later`,
              { detail: { retryAfterSeconds: 1 } },
            )
          }
          own += bytes
          used += bytes
        },
        [Symbol.dispose]() {
          used -= own
          own = 0
        },
      }
    },
  }
}
