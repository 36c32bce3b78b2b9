import type { ByteRange } from '../../core/registry.ts'
import { CodedError } from '../../core/errors.ts'
import { pause } from '../../core/retry.ts'
import type { Bytes } from '../../core/streams.ts'

/** How much is read at once, and ahead. */
export interface Lanes {
  /** Connections at a time. */
  readonly lanes: number
  /** Bytes that a lane asks for at once; one more segment than lanes is in memory. */
  readonly segmentBytes: number
}

export interface LanesOptions extends Lanes {
  /** The bytes of a range, pinned to one version. Throws RangesRefused and `CodedError`. */
  readonly open: (range: ByteRange, signal: AbortSignal) => Promise<Bytes>
  /** Waits before the next try of the last lane that is left, ms. */
  readonly retryDelaysMs: readonly number[]
  readonly signal: AbortSignal
}

/** The server sends everything where it is asked for a range. */
export class RangesRefused extends Error {
  constructor(label: string) {
    super(`${label} does not answer with the range that it is asked for`)
  }
}

/** Most bytes given out at once. */
const givenBytes = 1024 * 1024

/** Tries of a segment by one lane while there are others. */
const fewTries = 2

interface Segment extends ByteRange {
  readonly memory: Buffer
  filled: number
}

/**
 * The bytes of `range` in order, read over several connections at a time; a chunk is valid until the
 * next one is asked for. Each goes on where it broke. A server that lets in fewer has fewer: a lane
 * that fails leaves its segment to the others, and only the last one's failure is thrown.
 */
export async function* readByLanes(
  range: ByteRange,
  { open, retryDelaysMs, signal, lanes, segmentBytes }: LanesOptions,
): AsyncGenerator<Uint8Array, void> {
  const stopping = new AbortController()
  const ending = AbortSignal.any([signal, stopping.signal])
  const running = new Set<Promise<void>>()
  /** In order, the first one being given out. */
  const segments: Segment[] = []
  /** Begun by a lane that has ended. */
  const left: Segment[] = []
  const unused: Buffer[] = []
  let mostLanes = lanes
  let next = range.start
  let failure: { readonly error: unknown } | undefined
  let wake = (): void => {}

  function take(): Segment | undefined {
    const begun = left.shift()
    if (begun || next >= range.end || segments.length > lanes) return begun
    const end = Math.min(range.end, next + segmentBytes)
    const memory = unused.pop() ?? Buffer.allocUnsafeSlow(segmentBytes)
    const segment = { start: next, end, memory, filled: 0 }
    next = end
    segments.push(segment)
    return segment
  }

  async function fill(segment: Segment): Promise<void> {
    const from = segment.start + segment.filled
    for await (const chunk of await open({ start: from, end: segment.end }, ending)) {
      const part = chunk.subarray(0, segment.end - segment.start - segment.filled)
      segment.memory.set(part, segment.filled)
      segment.filled += part.length
      wake()
    }
    if (segment.start + segment.filled === segment.end) return
    throw new CodedError('SOURCE_TRUNCATED', `the answer ended ${missing(segment)} bytes early`)
  }

  /** False where this lane had better end. */
  async function fillByTries(segment: Segment): Promise<boolean> {
    for (let failures = 0; ;) {
      const before = segment.filled
      try {
        await fill(segment)
        return true
      } catch (error) {
        ending.throwIfAborted()
        if (error instanceof RangesRefused || isChanged(error)) throw error
        failures = segment.filled > before ? 1 : failures + 1
        const mayPass = !(error instanceof CodedError) || error.retryable
        if (running.size > 1 && (!mayPass || failures >= fewTries)) return false
        const delayMs = retryDelaysMs[failures - 1]
        if (!mayPass || delayMs === undefined) throw error
        await pause(delayMs, ending)
      }
    }
  }

  async function runLane(): Promise<void> {
    for (let segment = take(); segment; segment = take()) {
      if (await fillByTries(segment)) continue
      left.push(segment)
      mostLanes = Math.max(1, mostLanes - 1)
      return
    }
  }

  function startLanes(): void {
    while (running.size < mostLanes && (left.length > 0 || next < range.end)) {
      if (left.length === 0 && segments.length > lanes) return
      const lane: Promise<void> = runLane()
        .catch((error: unknown) => {
          failure ??= { error }
        })
        .finally(() => {
          running.delete(lane)
          wake()
        })
      running.add(lane)
    }
  }

  try {
    for (let given = 0; ;) {
      if (failure) throw failure.error
      startLanes()
      const segment = segments[0]
      if (segment && segment.filled > given) {
        const end = Math.min(segment.filled, given + givenBytes)
        yield segment.memory.subarray(given, end)
        given = end
      } else if (segment && segment.start + given === segment.end) {
        if (segment.end === range.end) return
        segments.shift()
        unused.push(segment.memory)
        given = 0
      } else {
        // Also without a segment: then the lanes that had them are about to end.
        const woken = Promise.withResolvers<void>()
        wake = woken.resolve
        await woken.promise
      }
    }
  } finally {
    stopping.abort()
    await Promise.allSettled(running)
  }
}

const missing = ({ start, end, filled }: Segment): number => end - start - filled

const isChanged = (error: unknown): boolean =>
  error instanceof CodedError && error.code === 'SOURCE_CHANGED'
