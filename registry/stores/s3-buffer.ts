import type { Lease, PieceBudget } from './s3-budget.ts'

/** Bytes taken that are on their way nowhere yet, in pieces of the budget. */
export interface PartBuffer extends Disposable {
  readonly bytes: number
  /** The next byte needs no new piece. */
  readonly hasRoom: boolean
  /** Waits for a piece where there is no room; others may still have taken it when it resolves. */
  room(): Promise<void>
  /** Takes as much of `chunk` as has room and answers how much. */
  put(chunk: Uint8Array): number
  /** Hands what is taken to `hash` as far as it is not there yet. */
  flushHash(): void
  /** All of it, which the budget counts as on its way; the buffer is then empty. */
  detach(): { readonly pieces: Uint8Array[]; readonly bytes: number; readonly lease: Lease }
}

export interface PartBufferOptions {
  readonly budget: PieceBudget
  /** Ends waiting for memory. */
  readonly signal: AbortSignal
  /** Hears all bytes in order, before they are detached. */
  readonly hash: (bytes: Uint8Array) => void
  /** Detaches what there is, because others wait for memory. */
  readonly onWanted: () => void
}

export function createPartBuffer(options: PartBufferOptions): PartBuffer {
  const { budget, signal, hash, onWanted } = options
  let full: Buffer[] = []
  let filling: Buffer | undefined
  let filled = 0
  let hashed = 0

  const membership = budget.join({
    get idlePieces() {
      return full.length + (filling ? 1 : 0)
    },
    giveBack: onWanted,
  })

  function flushHash(): void {
    if (filling && filled > hashed) hash(filling.subarray(hashed, filled))
    hashed = filled
  }

  function empty(): Buffer[] {
    const held = filling ? [...full, filling] : full
    full = []
    filling = undefined
    filled = 0
    hashed = 0
    return held
  }

  return {
    get bytes() {
      return full.length * budget.pieceBytes + filled
    },
    get hasRoom() {
      return filling !== undefined
    },
    async room() {
      if (filling) return
      const piece = await budget.take(signal)
      if (signal.aborted) budget.free([piece])
      signal.throwIfAborted()
      filling = piece
    },
    put(chunk) {
      if (!filling) return 0
      const part = chunk.subarray(0, budget.pieceBytes - filled)
      filling.set(part, filled)
      filled += part.length
      if (filled === budget.pieceBytes) {
        flushHash()
        full.push(filling)
        filling = undefined
        filled = 0
        hashed = 0
      }
      return part.length
    },
    flushHash,
    detach() {
      flushHash()
      const pieces: Uint8Array[] = [...full]
      if (filling && filled > 0) pieces.push(filling.subarray(0, filled))
      const bytes = full.length * budget.pieceBytes + filled
      return { pieces, bytes, lease: budget.lend(empty()) }
    },
    [Symbol.dispose]() {
      membership[Symbol.dispose]()
      budget.free(empty())
    },
  }
}
