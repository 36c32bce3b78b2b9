import { createConnections, type TlsTrust } from '../../core/connections.ts'
import { CodedError } from '../../core/errors.ts'
import type { ByteRange } from '../../core/registry.ts'
import type { Proxies } from '../../core/proxies.ts'
import { pause } from '../../core/retry.ts'
import type { Bytes } from '../../core/streams.ts'
import type { AddressPolicy } from './address-policy.ts'
import { headersOf, separateUserInfo, type Credentials } from './credentials.ts'
import { createSpeedMeter, defaultFloorSpeed, tooSlow, type FloorSpeed } from './floor-speed.ts'
import { connectionError } from './http-errors.ts'
import { RangesRefused, readByLanes, type Lanes } from './http-lanes.ts'
import { describeUrl, parseHttpUrl } from './http-request.ts'
import type { Source, SourcePlace } from './source.ts'
import { createStarving } from './starving.ts'
import { openWebContent, type WebAddress, type WebContent } from './web-content.ts'

export interface HttpSourceOptions {
  readonly signal: AbortSignal
  /** Waits before the next try, ms; one more try than entries. Reset by every byte that arrives. */
  readonly retryDelaysMs: readonly number[]
  /** Where connections may go, each of a redirect too; without one, anywhere. */
  readonly policy?: AddressPolicy | undefined
  readonly proxies?: Proxies | undefined
  readonly tls?: TlsTrust | undefined
  /** Other than `defaultFloorSpeed`. */
  readonly floorSpeed?: FloorSpeed | undefined
  /**
   * All bytes of it will be compared with a checksum: then a transfer may go on with a mirror.
   */
  readonly isChecked?: boolean
  /** Where to begin, where the content is still that one. */
  readonly from?: SourcePlace | undefined
  /** Other than `httpLanes`, with which a source is read that is slower than its reader. */
  readonly lanes?: Lanes & { readonly afterMs: number }
}

/** 40 MiB of memory at most, and only where one connection was too slow for a second. */
const httpLanes = { lanes: 4, segmentBytes: 8 * 1024 * 1024, afterMs: 1000 }

/** An address as it is; its user info or `given` is sent to its origin only. Throws SOURCE_INVALID. */
export function webAddress(text: string, given?: Credentials): WebAddress {
  const { source, credentials = {} } = separateUserInfo(text, given)
  const url = parseHttpUrl(source)
  const start = { url, credentials: headersOf(credentials) }
  return { label: describeUrl(url), start: () => Promise.resolve(start) }
}

/**
 * An image on web servers: the first of `addresses` that has it. Redirects are followed (at most 10,
 * never from https to http; credentials are not sent to another origin). A connection that breaks, or
 * is slower than allowed, is continued where the server pins the content by a strong ETag or
 * Last-Modified; SOURCE_CHANGED where it then serves other content. Where that fails it is continued
 * at another address, if that has the same length and the whole is checked in the end; else the one
 * that failed goes to the end of `addresses` and SOURCE_TRUNCATED asks for a new start.
 * What comes more slowly than it is read is asked for over several connections, where the server
 * takes ranges. Throws SOURCE_NOT_FOUND, SOURCE_DENIED, SOURCE_FORBIDDEN, SOURCE_TLS_INVALID,
 * SOURCE_UNAVAILABLE.
 */
export async function openHttpSource(
  addresses: WebAddress[],
  options: HttpSourceOptions,
): Promise<Source> {
  const { signal, retryDelaysMs, lanes = httpLanes, floorSpeed = defaultFloorSpeed } = options
  const connections = createConnections({
    ...options,
    headersTimeoutMs: floorSpeed.windowMs,
    bodyTimeoutMs: floorSpeed.windowMs,
  })
  const way = { connections, signal }
  let content = await openFirst().catch(async (error: unknown) => {
    await connections[Symbol.asyncDispose]()
    throw error
  })
  const { length, offset } = content
  const { label } = content.address
  // A later run may begin with another server, whose names for contents mean other ones.
  const isOneContent = addresses.length === 1 || options.isChecked === true
  const pin = isOneContent ? content.validator : undefined

  /** The first that answers: each once, then those again that may do better later. */
  async function openFirst(): Promise<WebContent> {
    let left: readonly WebAddress[] = [...addresses]
    const failures: CodedError[] = []
    for (const delayMs of [0, ...retryDelaysMs]) {
      if (delayMs > 0) await pause(delayMs, signal)
      for (const address of left) {
        try {
          return await openWebContent(address, way, options.from)
        } catch (error) {
          signal.throwIfAborted()
          const failure = asFailure(error, address.label)
          failures.push(failure)
          if (!failure.retryable) left = left.filter((other) => other !== address)
        }
      }
      if (left.length === 0) break
    }
    throw allFailed(failures.slice(-addresses.length))
  }

  async function* body(): AsyncGenerator<Uint8Array, void> {
    const meter = createSpeedMeter(floorSpeed)
    let stream: Bytes = content.first
    let received = offset
    let failures = 0
    let slowWindows = 0
    let mayUseLanes = content.takesRanges && content.validator !== undefined && lanes.lanes > 1
    for (;;) {
      const starving = createStarving(lanes.afterMs)
      let useLanes = false
      let isSlow = false
      try {
        meter.wait()
        for await (const chunk of starving.watch(stream)) {
          const speed = meter.got(chunk.length)
          received += chunk.length
          failures = 0
          yield chunk
          meter.wait()
          isSlow = speed === 'slow'
          if (isSlow) throw tooSlow(label, floorSpeed)
          if (speed === 'fine') slowWindows = 0
          const left = (length ?? 0) - received
          useLanes = mayUseLanes && left > lanes.segmentBytes && starving.isSo()
          if (useLanes) break
        }
        if (useLanes && length !== undefined) {
          mayUseLanes = false
          const { range: open } = content
          const rest = { start: received, end: length }
          stream = readByLanes(rest, { ...lanes, open, retryDelaysMs, signal })
          continue
        }
        if (length === undefined || received === length) return
        throw new CodedError(
          'SOURCE_TRUNCATED',
          `${label} ended after ${received} of ${length} bytes; the download is incomplete`,
        )
      } catch (error) {
        signal.throwIfAborted()
        mayUseLanes = false
        const failure = bodyError(error, label, received, length)
        const used = isSlow ? slowWindows++ : failures++
        const atOnce = error instanceof RangesRefused ? [0] : []
        const delaysMs = [...atOnce, ...retryDelaysMs.slice(used)]
        const next = await goOn(received, failure, delaysMs, slowWindows > 1)
        failures += next.tries - 1
        stream = next.stream
      }
    }
  }

  /** From where a transfer broke; waits before each try. */
  async function goOn(
    received: number,
    failure: CodedError,
    delaysMs: readonly number[],
    othersFirst: boolean,
  ): Promise<{ readonly stream: Bytes; readonly tries: number }> {
    const broken = content.address
    const isPinned = length !== undefined && content.validator !== undefined
    // Two servers may have given two contents one ETag: only a checksum of all of it tells.
    const isProvable = length !== undefined && options.isChecked === true
    const others = addresses.filter((one) => one !== broken)
    const possible = [isPinned ? [broken] : [], isProvable ? others : []]
    let left = (othersFirst ? possible.toReversed() : possible).flat()
    let last = failure
    for (const [index, delayMs] of delaysMs.entries()) {
      if (left.length === 0) break
      if (delayMs > 0) await pause(delayMs, signal)
      for (const address of left) {
        try {
          return { stream: await continueAt(address, received), tries: index + 1 }
        } catch (error) {
          signal.throwIfAborted()
          const isRefusal = error instanceof RangesRefused
          if (!isRefusal) last = asFailure(error, address.label)
          if (isRefusal || !last.retryable) left = left.filter((other) => other !== address)
        }
      }
    }
    if (others.length === 0) throw last
    // With the others there may be more luck, from the start.
    addresses.splice(addresses.indexOf(broken), 1)
    addresses.push(broken)
    throw new CodedError('SOURCE_TRUNCATED', failure.message, { cause: last })
  }

  async function continueAt(address: WebAddress, received: number): Promise<Bytes> {
    if (address === content.address) return content.from(received)
    const other = await openWebContent(address, way)
    other.discard()
    if (other.length !== length) throw new RangesRefused(address.label)
    const stream = await other.from(received)
    content = other
    return stream
  }

  const { range: open, takesRanges } = content
  const mayRead = takesRanges && pin !== undefined && addresses.length === 1
  async function* readRange(range: ByteRange): AsyncGenerator<Uint8Array, void> {
    const segmentBytes = Math.min(lanes.segmentBytes, range.end - range.start)
    try {
      yield* readByLanes(range, { ...lanes, segmentBytes, open, retryDelaysMs, signal })
    } catch (error) {
      signal.throwIfAborted()
      throw asFailure(error, label)
    }
  }

  return {
    label,
    length,
    pin,
    offset,
    body: body(),
    readRange: mayRead ? readRange : undefined,
    [Symbol.asyncDispose]: () => connections[Symbol.asyncDispose](),
  }
}

const asFailure = (error: unknown, label: string): CodedError => connectionError(error, label)

function allFailed(failures: readonly CodedError[]): CodedError {
  const [first, ...others] = failures
  if (!first || others.length === 0) return first ?? new CodedError('UNKNOWN', 'nothing was tried')
  const message = failures.map(({ message }) => message).join('; and its mirror: ')
  const lasting = failures.find(({ retryable }) => retryable) ?? first
  return new CodedError(lasting.code, message, { cause: first })
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
