import type { Digest } from '../../core/digest.ts'
import { CodedError, toCodedError } from '../../core/errors.ts'
import type { BlobWriter, ByteRange } from '../../core/registry.ts'
import { inPieces, type Bytes } from '../../core/streams.ts'
import { bufferBytes } from '../buffers.ts'

/** Bytes a reader takes at a time. */
const readBytes = 256 * 1024

/** A blob on its way from the upstream into the store, read by clients while it grows. */
export interface BlobFill {
  /** Bytes that are here already. */
  readonly filled: number
  /**
   * The bytes as they come. The last byte of the blob only comes once all of them are verified:
   * nobody takes a wrong blob for a whole one. Rejects with the reason where the fill fails.
   */
  read(range: ByteRange, signal: AbortSignal): AsyncGenerator<Uint8Array, void>
  /** True where it has failed because the store cannot take the bytes. */
  readonly isRefused: boolean
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

/** `verified`: all bytes are here, have the digest, and are being made durable. */
type State = 'filling' | 'verified' | 'stored' | { readonly failure: unknown }

export function startFill(parts: BlobFillParts): BlobFill {
  const { digest, size, writer, source, stop, patienceMs, readStored } = parts
  let state: State = 'filling'
  let isRefused = false
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

  /** What fails here is the store's refusal, not the upstream's. */
  async function storing<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call()
    } catch (error) {
      isRefused = true
      throw error
    }
  }

  async function fill(): Promise<void> {
    try {
      // Large pieces: each is written, and may then be read, on its own.
      for await (const chunk of inPieces(source, bufferBytes)) {
        await storing(() => inTurn(() => writer.write(chunk)))
        filled += chunk.length
        wake()
      }
      const written = await storing(() => inTurn(() => writer.finish()))
      if (written.digest !== digest) throw damaged(digest, written)
      state = 'verified'
      wake()
      await storing(() => writer.commit())
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

  const isGrowing = (): boolean => state === 'filling' || state === 'verified'

  const nextChange = (): Promise<void> => new Promise((resume) => waiting.push(resume))

  /** Bytes from `at` on that are here; none where it has ended, which `state` then says. */
  async function take(at: number, end: number, signal: AbortSignal): Promise<Uint8Array> {
    while (isGrowing()) {
      signal.throwIfAborted()
      const readable = state === 'filling' ? Math.min(filled, size - 1) : size
      const length = Math.min(end, readable, at + readBytes) - at
      if (length > 0) {
        try {
          return await inTurn(() => writer.readAt(at, length))
        } catch (error) {
          // A writer that has stored the bytes lets go of them a moment before it says so.
          if (state === 'filling') throw error
        }
      }
      if (isGrowing()) await nextChange()
    }
    return new Uint8Array()
  }

  return {
    get filled() {
      return filled
    },
    get isRefused() {
      return isRefused
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

function damaged(expected: Digest, { digest, size }: { digest: Digest; size: number }): CodedError {
  return new CodedError(
    'UPSTREAM_UNAVAILABLE',
    `the upstream sent ${size} bytes that have the digest ${digest} where ${expected} was asked for; nothing of it is kept`,
  )
}
