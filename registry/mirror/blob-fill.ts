import type { Digest } from '../../core/digest.ts'
import { CodedError, toCodedError } from '../../core/errors.ts'
import type { BlobWriter, ByteRange } from '../../core/registry.ts'
import type { Bytes } from '../../core/streams.ts'

/** Bytes a reader takes at a time. */
const readBytes = 256 * 1024

/** A blob on its way from the upstream into the store, read by clients while it grows. */
export interface BlobFill {
  readonly size: number
  /** Bytes that are here already. */
  readonly filled: number
  /**
   * The bytes as they come. The blob's last byte only comes once all of them are verified and
   * stored: nobody takes a wrong blob for a whole one. A fill that fails rejects with its reason.
   */
  read(range: ByteRange, signal: AbortSignal): AsyncGenerator<Uint8Array, void>
  /** Resolves at the end, however it ends. */
  readonly ended: Promise<void>
}

export interface BlobFillParts {
  readonly digest: Digest
  readonly size: number
  /** Opened with `readBack`; the fill ends it. */
  readonly writer: BlobWriter
  /** The whole blob, until the signal of `stop`. */
  readonly source: Bytes
  /** Aborted by the fill where nobody wants it any more. */
  readonly stop: AbortController
  /** So long it goes on without a reader; a client that comes back goes on with it. */
  readonly patienceMs: number
  /** Reads the blob once it is stored. */
  readonly readStored: (range: ByteRange, signal: AbortSignal) => Bytes
}

type State = 'filling' | 'stored' | { readonly failure: unknown }

export function startFill(parts: BlobFillParts): BlobFill {
  const { digest, size, writer, source, stop, patienceMs, readStored } = parts
  let state: State = 'filling'
  let filled = 0
  let readers = 0
  let giveUp: NodeJS.Timeout | undefined
  let waiting: (() => void)[] = []
  let lastCall: Promise<unknown> = Promise.resolve()

  function wake(): void {
    const woken = waiting
    waiting = []
    for (const resume of woken) resume()
  }

  /** A writer takes one call at a time. */
  function inTurn<T>(call: () => Promise<T>): Promise<T> {
    const running = lastCall.then(call, call)
    lastCall = running
    return running
  }

  async function store(): Promise<void> {
    const written = await writer.finish()
    if (written.digest !== digest) {
      throw new CodedError(
        'UPSTREAM_UNAVAILABLE',
        `the upstream sent ${written.size} bytes that have the digest ${written.digest} where ${digest} was asked for; nothing of it is kept`,
      )
    }
    await writer.commit()
  }

  async function fill(): Promise<void> {
    try {
      for await (const chunk of source) {
        await inTurn(() => writer.write(chunk))
        filled += chunk.length
        wake()
      }
      await inTurn(store)
      state = 'stored'
    } catch (error) {
      state = { failure: error }
      // What it leaves where this fails too is swept like any broken upload.
      await inTurn(() => writer.abort()).catch(() => {})
    } finally {
      clearTimeout(giveUp)
      wake()
    }
  }

  const ended = fill()

  function left(): void {
    readers -= 1
    if (readers > 0 || state !== 'filling') return
    giveUp = setTimeout(() => {
      stop.abort(new CodedError('CANCELLED', 'nobody waits for the blob any more'))
    }, patienceMs)
  }

  /** Bytes from `at` on that are here; none where it has ended, which `state` then says. */
  async function take(at: number, end: number, signal: AbortSignal): Promise<Uint8Array> {
    for (;;) {
      signal.throwIfAborted()
      if (state !== 'filling') return new Uint8Array()
      const ready = Math.min(end, filled, size - 1, at + readBytes) - at
      if (ready <= 0) {
        await new Promise<void>((resume) => waiting.push(resume))
        continue
      }
      const bytes = await inTurn(async () =>
        state === 'filling' ? writer.readAt(at, ready) : new Uint8Array(),
      )
      if (bytes.length > 0) return bytes
    }
  }

  return {
    size,
    get filled() {
      return filled
    },
    ended,
    async *read({ start, end }, signal) {
      readers += 1
      clearTimeout(giveUp)
      signal.addEventListener('abort', wake, { once: true })
      try {
        let at = start
        for (let bytes; at < end; at += bytes.length) {
          bytes = await take(at, end, signal)
          if (bytes.length === 0) break
          yield bytes
        }
        if (at >= end) return
        if (typeof state === 'object') throw toCodedError(state.failure)
        yield* readStored({ start: at, end }, signal)
      } finally {
        signal.removeEventListener('abort', wake)
        left()
      }
    },
  }
}
