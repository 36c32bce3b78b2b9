/** What one writer holds of the budget. */
export interface Holder {
  /** Pieces that `giveBack` would put on their way. */
  readonly idlePieces: number
  /** Sends what is idle to the storage, whatever its size, so that its pieces become free. */
  giveBack(): void
}

/** Pieces on their way to the storage; `release` makes them free, once. */
export interface Lease {
  release(): void
}

/**
 * The memory of all uploads of a process: pieces of one size, handed out in the order in which they
 * are asked for. While somebody waits, holders give back what lies idle with them, the fullest
 * first: so a wait ends as long as the storage takes bytes, however many uploads stand still.
 */
export interface PieceBudget {
  readonly pieceBytes: number
  /** Somebody waits, or would have to. */
  readonly isTight: boolean
  join(holder: Holder): Disposable
  /** Waits for a piece; rejects with the reason of `signal`. Its contents are anything. */
  take(signal: AbortSignal): Promise<Buffer>
  /** Pieces that are being sent: others may count on them. */
  lend(pieces: readonly Buffer[]): Lease
  /** Pieces that are not needed any more. */
  free(pieces: readonly Buffer[]): void
}

interface Waiter {
  serve(piece: Buffer): void
}

/** Unused memory is let go after so long without any use. */
const keptMs = 10_000

export function createPieceBudget(options: {
  readonly bytes: number
  readonly pieceBytes: number
}): PieceBudget {
  const { pieceBytes } = options
  const most = Math.floor(options.bytes / pieceBytes)
  const holders = new Set<Holder>()
  const waiters = new Set<Waiter>()
  let memory: Buffer | undefined
  let unused: Buffer[] = []
  let used = 0
  let returning = 0
  let emptying: NodeJS.Timeout | undefined

  function free(pieces: readonly Buffer[]): void {
    for (const piece of pieces) {
      const [first] = waiters
      if (first) {
        waiters.delete(first)
        first.serve(piece)
      } else {
        used--
        unused.push(piece)
      }
    }
    if (used === 0) emptying ??= setTimeout(letGo, keptMs).unref()
    relieve()
  }

  function letGo(): void {
    memory = undefined
    unused = []
  }

  /** A piece that was never used: of one run of memory, which only counts as far as it was written. */
  function cut(): Buffer {
    memory ??= Buffer.allocUnsafeSlow(most * pieceBytes)
    const start = (used - 1) * pieceBytes
    return memory.subarray(start, start + pieceBytes)
  }

  function relieve(): void {
    while (waiters.size > returning) {
      let fullest: Holder | undefined
      for (const holder of holders) {
        if (holder.idlePieces > (fullest?.idlePieces ?? 0)) fullest = holder
      }
      if (!fullest) return
      fullest.giveBack()
    }
  }

  return {
    pieceBytes,
    get isTight() {
      return used >= most
    },
    join(holder) {
      holders.add(holder)
      return { [Symbol.dispose]: () => void holders.delete(holder) }
    },
    async take(signal) {
      signal.throwIfAborted()
      clearTimeout(emptying)
      emptying = undefined
      if (used < most) {
        used++
        return unused.pop() ?? cut()
      }
      const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
      const waiter: Waiter = { serve: resolve }
      const onAbort = (): void => {
        if (waiters.delete(waiter)) reject(signal.reason)
      }
      waiters.add(waiter)
      signal.addEventListener('abort', onAbort, { once: true })
      relieve()
      try {
        return await promise
      } finally {
        signal.removeEventListener('abort', onAbort)
      }
    },
    lend(pieces) {
      let isOut = true
      returning += pieces.length
      return {
        release() {
          if (!isOut) return
          isOut = false
          returning -= pieces.length
          free(pieces)
        },
      }
    },
    free,
  }
}
