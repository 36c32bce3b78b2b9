import type { Parking } from './parking.ts'
import { mostRunBytes } from './run-queue.ts'

/** The part of a file that is passing, and what was kept of the part that has passed. */
export interface StreamWindow {
  /** Bytes of the file that have come. */
  readonly position: number
  /** Takes the next bytes of the file; at most `mostChunkBytes`. */
  append(chunk: Uint8Array): void
  /** Copies `[start, start + into.length)` as far as it is still here; how many bytes that was. */
  copy(start: number, into: Uint8Array): Promise<number>
  /** The bytes themselves where all of them are in the window; valid until the next `append`. */
  view(start: number, size: number): Uint8Array | undefined
  /**
   * These bytes are taken; `isPacked`: others may share its first and last sector. False where
   * something that is still here has taken some of them.
   */
  use(start: number, end: number, isPacked: boolean): boolean
  /** Lets go of everything before `end`; what nobody took is kept aside where `keeps` says so. */
  leave(end: number, options: { readonly keeps: boolean }): Promise<void>
}

/** Something nobody knows of yet may begin in the last sector, unless what follows begins there. */
function mayHide(one: Used, next: Used | undefined): boolean {
  if (!one.isPacked) return false
  return next?.isPacked !== true || next.start > one.end
}

export const mostChunkBytes = 1024 * 1024
const sectorBytes = 512

interface Used {
  readonly start: number
  readonly end: number
  readonly isPacked: boolean
}

/** A window that reaches back over one run; `parking` takes what must be kept for longer. */
export function createStreamWindow(parking: Parking): StreamWindow {
  const buffer = Buffer.allocUnsafeSlow(mostRunBytes + 2 * mostChunkBytes)
  /** Place in the file of the buffer's first byte. */
  let base = 0
  let position = 0
  /** What lies before it is taken, parked or dropped. */
  let decided = 0
  let parkedTo = 0
  let used: Used[] = []

  async function park(start: number, end: number): Promise<void> {
    const from = Math.max(start, parkedTo)
    if (from >= end) return
    await parking.keep(from, buffer.subarray(from - base, end - base))
    parkedTo = end
  }

  /** The gap, and what compressed neighbours may share with something that is in it. */
  async function parkGap(
    start: number,
    end: number,
    before: Used | undefined,
    after: Used | undefined,
  ): Promise<void> {
    const from = before?.isPacked === true ? Math.max(base, start - sectorBytes) : start
    const to = after?.isPacked === true ? Math.min(after.end, end + sectorBytes) : end
    await park(from, to)
  }

  async function parkGaps(end: number): Promise<void> {
    let at = decided
    let before: Used | undefined
    for (const [index, one] of used.entries()) {
      if (one.start >= end) break
      const touchesParked = one.start === decided && parkedTo === decided && decided > 0
      if (one.start > at) await parkGap(at, one.start, before, one)
      else if (touchesParked && one.isPacked) await park(one.start, one.start + sectorBytes)
      if (one.end <= end && mayHide(one, used[index + 1])) {
        await park(Math.max(base, one.end - sectorBytes), one.end)
      }
      if (one.end > at) {
        at = one.end
        before = one
      }
    }
    if (at < end) await parkGap(at, end, before, undefined)
  }

  return {
    get position() {
      return position
    },
    append(chunk) {
      buffer.set(chunk, position - base)
      position += chunk.length
    },
    async copy(start, into) {
      const end = start + into.length
      const inWindow = Math.max(start, base)
      let copied = 0
      if (inWindow < Math.min(end, position)) {
        const part = buffer.subarray(inWindow - base, Math.min(end, position) - base)
        into.set(part, inWindow - start)
        copied += part.length
      }
      const past = Math.min(end, base) - start
      return past > 0 ? copied + (await parking.copy(start, into.subarray(0, past))) : copied
    },
    view(start, size) {
      if (start < base || start + size > position) return undefined
      return buffer.subarray(start - base, start - base + size)
    },
    use(start, end, isPacked) {
      const shared = isPacked ? sectorBytes : 0
      const isTaken = used.some((one) => start < one.end - shared && one.start < end - shared)
      if (isTaken) return false
      if (end <= decided) return true
      let at = used.length
      while (at > 0 && (used[at - 1]?.start ?? 0) > start) at--
      used.splice(at, 0, { start, end, isPacked })
      return true
    },
    async leave(end, { keeps }) {
      if (keeps) await parkGaps(end)
      decided = Math.max(decided, end)
      used = used.filter((one) => one.end > decided - sectorBytes)
      // A sector more: what comes next may share it with what was taken.
      const from = Math.max(base, decided - sectorBytes)
      buffer.copyWithin(0, from - base, position - base)
      base = from
    },
  }
}
