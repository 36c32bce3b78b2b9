import type { Dispatcher } from 'undici'
import { CodedError } from '../../core/errors.ts'
import type { ByteRange } from '../../core/registry.ts'
import { pause } from '../../core/retry.ts'
import type { UpstreamRequests } from './upstream-request.ts'

/** Waits before a broken transfer is continued; a byte that comes starts them anew. */
const retryDelaysMs = [250, 1000, 4000, 15_000]
/** Who waits for the first byte hears sooner that it does not come. */
const firstDelaysMs = [250, 1000]

export interface BlobTransfer {
  /** Of the whole blob. */
  readonly size: number
  readonly range: ByteRange
  readonly signal: AbortSignal
}

/**
 * Bytes `range` of the blob at `path`, in order, each once. Where the transfer breaks it goes on
 * from there, by range or, where the upstream has none, by skipping what came already.
 */
export async function* readUpstreamBlob(
  path: string,
  requests: UpstreamRequests,
  { size, range, signal }: BlobTransfer,
): AsyncGenerator<Uint8Array, void> {
  let at = range.start
  for (let failures = 0; at < range.end;) {
    try {
      const rest = { start: at, end: range.end }
      for await (const chunk of transfer(path, requests, { size, range: rest, signal })) {
        yield chunk
        at += chunk.length
        failures = 0
      }
      if (at < range.end) throw new Error(`it ended after ${at} of ${size} bytes`)
    } catch (error) {
      signal.throwIfAborted()
      const failure = requests.failed(error, path)
      const delayMs = (at > range.start ? retryDelaysMs : firstDelaysMs)[failures]
      if (!mayPass(failure) || delayMs === undefined) throw failure
      failures += 1
      await pause(delayMs, signal)
    }
  }
}

/** False where the upstream has said that it will not give the bytes. */
function mayPass({ retryable, cause }: CodedError): boolean {
  return (
    retryable && (!(cause instanceof CodedError) || cause.retryable || cause.code === 'UNKNOWN')
  )
}

/** One attempt; never more bytes than asked for. */
async function* transfer(
  path: string,
  requests: UpstreamRequests,
  { size, range: { start, end }, signal }: BlobTransfer,
): AsyncGenerator<Uint8Array, void> {
  const isPart = start > 0 || end < size
  const headers = isPart ? { range: `bytes=${start}-${end - 1}` } : {}
  const response = await requests.send(path, { method: 'GET', headers, signal, accept: [200, 206] })
  let skipped = skipBytes(response, start, size)
  let left = end - start
  for await (const chunk of response.body) {
    const bytes: Uint8Array = chunk
    const skip = Math.min(skipped, bytes.length)
    skipped -= skip
    const wanted = bytes.subarray(skip, skip + left)
    left -= wanted.length
    if (wanted.length > 0) yield wanted
    if (left === 0) return
  }
}

/** How many bytes of the answer come before the first one asked for. */
function skipBytes({ statusCode, headers }: Dispatcher.ResponseData, start: number, size: number) {
  if (statusCode === 206) {
    const [, first] = /^bytes (\d+)-/.exec(String(headers['content-range'])) ?? []
    if (Number(first) === start) return 0
    // Trying again would not change it.
    throw new CodedError(
      'RANGE_INVALID',
      `it sent the range ${String(headers['content-range'])} where the bytes from ${start} on were asked for`,
    )
  }
  const length = headers['content-length']
  if (length === undefined || Number(length) === size) return start
  throw new CodedError(
    'SIZE_INVALID',
    `it sent ${String(length)} bytes where it said ${size} before`,
  )
}
