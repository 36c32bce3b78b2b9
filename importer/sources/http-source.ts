import { Agent, type Dispatcher } from 'undici'
import { CodedError } from '../../core/errors.ts'
import type { ByteRange } from '../../core/registry.ts'
import { pause, retried } from '../../core/retry.ts'
import { observed, skipping, type Bytes } from '../../core/streams.ts'
import type { AddressPolicy } from './address-policy.ts'
import { connectionError } from './http-errors.ts'
import { RangesRefused, readByLanes, type Lanes } from './http-lanes.ts'
import {
  contentLength,
  describeUrl,
  discard,
  follow,
  parseHttpUrl,
  pinnedBy,
  saysOtherThan,
  type Opened,
  type Way,
} from './http-request.ts'
import type { Source, SourcePlace } from './source.ts'
import { createStarving } from './starving.ts'

export interface HttpSourceOptions {
  readonly signal: AbortSignal
  /** Waits before the next try, ms; one more try than entries. Reset by every byte that arrives. */
  readonly retryDelaysMs: readonly number[]
  /** Where connections may go, each of a redirect too; without one, anywhere. */
  readonly policy?: AddressPolicy
  /** Other than `httpLanes`, with which a source is read that is slower than its reader. */
  readonly lanes?: Lanes & { readonly afterMs: number }
  /** Where to begin, where the content is still that one. */
  readonly from?: SourcePlace | undefined
}

/** Of `dvcr`: seven and a half seconds in all, then the source counts as gone. */
export const sourceRetryDelaysMs: readonly number[] = [500, 2000, 5000]

/** 40 MiB of memory at most, and only where one connection was too slow for a second. */
const httpLanes = { lanes: 4, segmentBytes: 8 * 1024 * 1024, afterMs: 1000 }

/** Nothing arriving for this long is a broken connection. */
const idleMs = 60_000

/**
 * An image on a web server. Redirects are followed (at most 10, never from https to http; user
 * info is not sent to another origin). A connection that breaks is continued where the server pins
 * the content by a strong ETag or Last-Modified; SOURCE_CHANGED where it then serves other content.
 * What comes more slowly than it is read is asked for over several connections, where the server
 * takes ranges. Throws SOURCE_NOT_FOUND, SOURCE_DENIED, SOURCE_FORBIDDEN, SOURCE_TLS_INVALID,
 * SOURCE_UNAVAILABLE.
 */
export async function openHttpSource(text: string, options: HttpSourceOptions): Promise<Source> {
  const { policy, signal, retryDelaysMs, lanes = httpLanes, from } = options
  const first = parseHttpUrl(text)
  const label = describeUrl(first)
  const agent = new Agent({
    connect: { timeout: 15_000, ...(policy && { lookup: policy.lookup }) },
    headersTimeout: idleMs,
    bodyTimeout: idleMs,
  })
  const retrying = {
    delaysMs: retryDelaysMs,
    signal,
    shouldRetry: (error: unknown) => error instanceof CodedError && error.retryable,
  }
  let opened: Opened
  try {
    opened = await retried(() => begin({ agent, policy, signal }), retrying)
  } catch (error) {
    await agent.destroy()
    throw error
  }
  const isMidway = opened.response.statusCode === 206
  const length = isMidway ? from?.length : contentLength(opened.response)
  const validator = isMidway ? from?.pin : pinnedBy(opened.response)
  const offset = from && validator === from.pin && length === from.length ? from.offset : 0
  const takesRanges = /^bytes$/i.test(String(opened.response.headers['accept-ranges'] ?? ''))
  let place = opened.url

  /** The content from where it is asked for, or all of it where it is another one now. */
  async function begin(way: Way): Promise<Opened> {
    if (!from || from.offset === 0) return follow(first, {}, way)
    const headers = { range: `bytes=${from.offset}-`, 'if-range': from.pin }
    // A shorter content does not have the place.
    const opened = await follow(first, headers, way, [416])
    const { response } = opened
    const range = `bytes ${from.offset}-${from.length - 1}/${from.length}`
    if (response.statusCode === 200 || isRange(response, range, from.pin)) return opened
    discard(response)
    return follow(first, {}, way)
  }

  async function* body(): AsyncGenerator<Uint8Array, void> {
    const isBefore = offset > 0 && !isMidway
    let stream: Bytes = isBefore ? skipping(opened.response.body, offset) : opened.response.body
    let received = offset
    let failures = 0
    const count = (chunk: Uint8Array): void => {
      received += chunk.length
      failures = 0
    }
    let mayUseLanes = takesRanges && validator !== undefined && lanes.lanes > 1
    for (;;) {
      const starving = createStarving(lanes.afterMs)
      let useLanes = false
      try {
        for await (const chunk of starving.watch(stream)) {
          count(chunk)
          yield chunk
          const left = (length ?? 0) - received
          useLanes = mayUseLanes && left > lanes.segmentBytes && starving.isSo()
          if (useLanes) break
        }
        if (length === undefined || received === length) return
        if (useLanes) {
          const rest = { start: received, end: length }
          const options = { ...lanes, open: openRange, retryDelaysMs, signal }
          yield* observed(readByLanes(rest, options), count)
          return
        }
        throw new CodedError(
          'SOURCE_TRUNCATED',
          `${label} ended after ${received} of ${length} bytes; the download is incomplete`,
        )
      } catch (error) {
        signal.throwIfAborted()
        mayUseLanes = false
        const failure = bodyError(error, label, received, length)
        const delayMs = retryDelaysMs[failures++]
        if (validator === undefined || delayMs === undefined || length === undefined) throw failure
        if (!(error instanceof RangesRefused)) await pause(delayMs, signal)
        stream = await retried(() => resume(received, failure), retrying)
      }
    }
  }

  /** Redirects are not followed again while they led to something that is still there. */
  async function ask(range: string, ending: AbortSignal): Promise<Dispatcher.ResponseData> {
    const headers = { range, 'if-range': validator ?? '' }
    const way = { agent, policy, signal: ending }
    try {
      return (await follow(place, headers, way)).response
    } catch (error) {
      // Where they led to may have been signed for a while only.
      const isGone = error instanceof CodedError && /_(?:DENIED|NOT_FOUND)$/.test(error.code)
      if (!isGone || place.href === first.href) throw error
      const again = await follow(first, headers, way)
      place = again.url
      return again.response
    }
  }

  /** The bytes from `from` on; of a server without ranges those before are read once more. */
  async function resume(from: number, failure: CodedError): Promise<Bytes> {
    const response = await ask(`bytes=${from}-`, signal)
    if (isRange(response, `bytes ${from}-`, validator)) return response.body
    if (response.statusCode === 200 && pinnedBy(response) === validator) {
      return skipping(response.body, from)
    }
    discard(response)
    throw saysOther(response) ? changed(from) : failure
  }

  async function openRange({ start, end }: ByteRange, ending: AbortSignal): Promise<Bytes> {
    const response = await ask(`bytes=${start}-${end - 1}`, ending)
    if (isRange(response, `bytes ${start}-${end - 1}/`, validator)) return response.body
    discard(response)
    throw saysOther(response) ? changed(start) : new RangesRefused(label)
  }

  const saysOther = (response: Dispatcher.ResponseData): boolean =>
    response.statusCode === 206
      ? saysOtherThan(validator, response)
      : pinnedBy(response) !== validator

  const changed = (at: number): CodedError =>
    new CodedError(
      'SOURCE_CHANGED',
      `${label} changed while it was downloaded (at byte ${at}); import it again`,
    )

  return {
    label,
    length,
    pin: validator,
    offset,
    body: body(),
    [Symbol.asyncDispose]: () => agent.destroy(),
  }
}

/** True for the bytes of `range`: not every server with ranges looks at If-Range. */
function isRange(
  response: Dispatcher.ResponseData,
  range: string,
  validator: string | undefined,
): boolean {
  return (
    response.statusCode === 206 &&
    !saysOtherThan(validator, response) &&
    String(response.headers['content-range'] ?? '').startsWith(range)
  )
}

function bodyError(
  error: unknown,
  label: string,
  received: number,
  length: number | undefined,
): CodedError {
  if (error instanceof CodedError) return error
  const of = length === undefined ? '' : ` of ${length}`
  return new CodedError(
    'SOURCE_TRUNCATED',
    `the connection to ${label} broke after ${received}${of} bytes: ${connectionError(error, label).message}`,
    { cause: error },
  )
}
