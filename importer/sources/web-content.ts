import type { Dispatcher } from 'undici'
import { CodedError } from '../../core/errors.ts'
import type { ByteRange } from '../../core/registry.ts'
import { skipping, type Bytes } from '../../core/streams.ts'
import { RangesRefused } from './http-lanes.ts'
import {
  contentLength,
  discard,
  follow,
  pinnedBy,
  saysOtherThan,
  type Opened,
  type Start,
  type Way,
} from './http-request.ts'
import type { SourcePlace } from './source.ts'

/** Where a content is on the web. */
export interface WebAddress {
  /** For people and records. */
  readonly label: string
  /** Where to begin; asked again where what redirects led to is gone, as signed addresses are. */
  readonly start: () => Promise<Start>
}

/** A content on one server, pinned to the version that the first answer had. */
export interface WebContent {
  readonly address: WebAddress
  readonly length: number | undefined
  /** A strong ETag or a date; without one only `first` can be read. */
  readonly validator: string | undefined
  readonly takesRanges: boolean
  /** Where `first` begins. */
  readonly offset: number
  /** All bytes from there on, once. */
  readonly first: Bytes
  /**
   * The bytes from `position` on; of a server without ranges those before are read once more. Throws
   * RangesRefused where neither can be, SOURCE_CHANGED where it has another version now.
   */
  from(position: number): Promise<Bytes>
  /** Throws as `from`. */
  range(range: ByteRange, signal: AbortSignal): Promise<Bytes>
  /** Drops `first` unread. */
  discard(): void
}

/** Asks for it from `place` on where it is still that content, else for all. Throws as `follow`. */
export async function openWebContent(
  address: WebAddress,
  way: Way,
  place?: SourcePlace,
): Promise<WebContent> {
  const { label } = address
  const opened = await begin(await address.start(), way, place)
  const { response } = opened
  const isMidway = response.statusCode === 206
  const validator = isMidway ? place?.pin : pinnedBy(response)
  const length = isMidway ? place?.length : contentLength(response)
  const isSame = place && validator === place.pin && length === place.length
  const offset = isSame ? place.offset : 0
  let { at } = opened
  requireReadable(response, label)

  function firstBytes(): Bytes {
    if (!isMidway) return offset > 0 ? skipping(response.body, offset) : response.body
    return length === undefined ? response.body : limited(response.body, length - offset)
  }

  /** Redirects are not followed again while they led to something that is still there. */
  async function ask(range: string, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const headers = { range, 'if-range': validator ?? '' }
    try {
      return (await follow(at, headers, { ...way, signal }, [416])).response
    } catch (error) {
      // Where they led to may have been signed for a while only.
      const isGone = error instanceof CodedError && /_(?:DENIED|NOT_FOUND)$/.test(error.code)
      if (!isGone) throw error
      const start = await address.start()
      if (start.url.href === at.url.href) throw error
      const again = await follow(start, headers, { ...way, signal }, [416])
      at = again.at
      return again.response
    }
  }

  function refusal(answer: Dispatcher.ResponseData, position: number): Error {
    discard(answer)
    if (!isOther(answer, { validator, length })) return new RangesRefused(label)
    return new CodedError(
      'SOURCE_CHANGED',
      `${label} changed while it was downloaded (at byte ${position}); import it again`,
    )
  }

  const isOurs = (answer: Dispatcher.ResponseData, range: ByteRange): boolean =>
    isRange(answer, range, { validator, length }) && encodingOf(answer) === encodingOf(response)

  return {
    address,
    length,
    validator,
    offset,
    takesRanges: /^bytes$/i.test(String(response.headers['accept-ranges'] ?? '')),
    first: firstBytes(),
    async from(position) {
      if (validator === undefined || length === undefined) throw new RangesRefused(label)
      const range = { start: position, end: length }
      const answer = await ask(`bytes=${position}-`, way.signal)
      if (isOurs(answer, range)) return limited(answer.body, length - position)
      const isWhole = answer.statusCode === 200 && encodingOf(answer) === encodingOf(response)
      if (isWhole && !isOther(answer, { validator, length })) {
        return limited(skipping(answer.body, position), length - position)
      }
      throw refusal(answer, position)
    },
    async range(range, signal) {
      const { start, end } = range
      const answer = await ask(`bytes=${start}-${end - 1}`, signal)
      if (isOurs(answer, range) && rangeOf(answer)?.end === end) return answer.body
      throw refusal(answer, start)
    },
    discard: () => discard(response),
  }
}

async function begin(start: Start, way: Way, place: SourcePlace | undefined): Promise<Opened> {
  if (!place || place.offset === 0) return follow(start, {}, way)
  const headers = { range: `bytes=${place.offset}-`, 'if-range': place.pin }
  // A shorter content does not have the place.
  const opened = await follow(start, headers, way, [416])
  const { response } = opened
  const range = { start: place.offset, end: place.length }
  const known = { validator: place.pin, length: place.length }
  const isMidway = isRange(response, range, known) && rangeOf(response)?.end === range.end
  if (response.statusCode === 200 || (isMidway && encodingOf(response) === '')) return opened
  discard(response)
  return follow(start, {}, way)
}

/** What the first answer says of the content. */
interface Known {
  readonly validator: string | undefined
  readonly length: number | undefined
}

/** True for an answer with bytes of `range`, from its start on, of that very content. */
function isRange(response: Dispatcher.ResponseData, range: ByteRange, known: Known): boolean {
  const sent = rangeOf(response)
  if (response.statusCode !== 206 || isOther(response, known)) return false
  // Not every server with ranges looks at If-Range: without its ETag it may be of any version.
  const isPinned = !known.validator?.startsWith('"') || response.headers['etag'] !== undefined
  return isPinned && sent?.start === range.start && sent.end <= range.end
}

/** True where the answer says that it is of another content: by its pin or by its length. */
function isOther(response: Dispatcher.ResponseData, { validator, length }: Known): boolean {
  const isPart = response.statusCode !== 200
  const total = isPart ? rangeOf(response)?.total : contentLength(response)
  if (total !== undefined && total !== length) return true
  if (response.statusCode === 416) return total === undefined
  return isPart ? saysOtherThan(validator, response) : pinnedBy(response) !== validator
}

/** Of Content-Range; `end` is the byte behind the last one. @see RFC 9110 §14.4 */
function rangeOf({ headers }: Dispatcher.ResponseData):
  | {
      readonly start: number | undefined
      readonly end: number
      readonly total: number | undefined
    }
  | undefined {
  const text = String(headers['content-range'] ?? '')
  const found = /^bytes (?:(\d{1,15})-(\d{1,15})|\*)\/(?:(\d{1,15})|\*)$/.exec(text)
  if (!found) return undefined
  const [, first, last, total] = found
  return {
    start: first === undefined ? undefined : Number(first),
    end: Number(last ?? -1) + 1,
    total: total === undefined ? undefined : Number(total),
  }
}

/** How a server has wrapped what it sends; empty where it has not. */
function encodingOf({ headers }: Dispatcher.ResponseData): string {
  const text = String(headers['content-encoding'] ?? '').toLowerCase()
  return text === 'identity' ? '' : text
}

/** Throws SOURCE_INVALID for a wrapping that nothing of the bytes would tell. */
function requireReadable(response: Dispatcher.ResponseData, label: string): void {
  const encoding = encodingOf(response)
  if (!/\b(?:br|deflate|compress|dcb|dcz)\b/.test(encoding)) return
  discard(response)
  throw new CodedError(
    'SOURCE_INVALID',
    `${label} is sent with Content-Encoding ${JSON.stringify(encoding)} though it was asked for as it is; have the server send the file without it`,
  )
}

/** The first `size` bytes: not every server sends as many as it says. */
async function* limited(body: Bytes, size: number): AsyncGenerator<Uint8Array, void> {
  let left = size
  if (left === 0) return
  for await (const chunk of body) {
    yield chunk.subarray(0, left)
    left -= chunk.length
    if (left <= 0) return
  }
}
