import type { Compression } from '../../core/disk-format.ts'
import { CodedError } from '../../core/errors.ts'
import type { Bytes } from '../../core/streams.ts'
import type { Boundary } from './boundary.ts'

/** What decoding one file may take and give. */
export interface DecodeBudget {
  /** Bytes of the compressed and of the decompressed file, each. */
  readonly mostBytes: number
  /** Compressed bytes beyond twice those that came out of them. */
  readonly mostIdleBytes: number
  /** Time of the decoder beyond what `leastBytesPerSecond`, in and out together, would take. */
  readonly graceMs: number
  readonly leastBytesPerSecond: number
}

const mebibyte = 1024 * 1024

/** For disks up to `maxVirtualSize`; their files may be a little larger: tables, headers, padding. */
export function budgetFor(maxVirtualSize: number): DecodeBudget {
  return {
    mostBytes: maxVirtualSize + maxVirtualSize / 16 + 64 * mebibyte,
    // No compressor makes more of what it gets; what is read ahead or skipped is counted too.
    mostIdleBytes: 64 * mebibyte,
    // The slowest decoders do a hundred times that, alone.
    graceMs: 60_000,
    leastBytesPerSecond: 256 * 1024,
  }
}

/**
 * What `decode` makes of `body`, which begins at `from`, within the budget. Throws SIZE_EXCEEDED where it is too much, or
 * takes the decoder too long, COMPRESSION_INVALID for a long run of data that holds nothing: so an
 * endless source ends, and the work is bounded by what comes out of it.
 */
export async function* withinBudget(
  body: Bytes,
  compression: Compression,
  decode: (body: Bytes) => Bytes,
  budget: DecodeBudget,
  from: Boundary = { compressed: 0, decoded: 0 },
): AsyncGenerator<Uint8Array, void> {
  const { mostBytes, mostIdleBytes, graceMs, leastBytesPerSecond } = budget
  let taken = from.compressed
  let given = from.decoded
  let decodingMs = 0
  let countedUntil = performance.now()
  let isReading = false
  let isSourceWaited = false

  /** To be called before either changes: only when it keeps the reader waiting, with bytes to work on. */
  function countTime(): void {
    const now = performance.now()
    if (isReading && !isSourceWaited) decodingMs += now - countedUntil
    countedUntil = now
  }

  function check(): void {
    if (taken > mostBytes || given > mostBytes) {
      const what = given > mostBytes ? 'it unpacks to' : 'it has'
      throw refusal(
        'SIZE_EXCEEDED',
        `${what} more than the allowed ${mostBytes} bytes (maxVirtualSize)`,
      )
    }
    if (taken > 2 * given + mostIdleBytes) {
      throw refusal(
        'COMPRESSION_INVALID',
        `${taken} bytes of it hold ${given} bytes; no compressor makes that`,
      )
    }
    if (decodingMs > graceMs + ((taken + given) / leastBytesPerSecond) * 1000) {
      const seconds = Math.round(decodingMs / 1000)
      throw refusal(
        'SIZE_EXCEEDED',
        `${taken} bytes of it took ${seconds} s, longer than any disk takes; it is made to be slow, or this machine has far too much to do`,
      )
    }
  }

  const refusal = (code: 'SIZE_EXCEEDED' | 'COMPRESSION_INVALID', why: string): CodedError =>
    new CodedError(code, `cannot decompress ${compression}: ${why}`)

  async function* metered(): AsyncGenerator<Uint8Array, void> {
    countTime()
    isSourceWaited = true
    for await (const chunk of body) {
      countTime()
      isSourceWaited = false
      taken += chunk.length
      check()
      yield chunk
      countTime()
      isSourceWaited = true
    }
    countTime()
    isSourceWaited = false
  }

  const decoded = decode(metered())[Symbol.asyncIterator]()
  try {
    for (;;) {
      countTime()
      isReading = true
      const next = await decoded.next()
      countTime()
      isReading = false
      if (next.done === true) return
      given += next.value.length
      check()
      yield next.value
    }
  } finally {
    await decoded.return?.()
  }
}
