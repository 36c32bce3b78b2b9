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

  /** Redirects are not followed again while they led to something that is still there. */
  async function ask(range: string, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const headers = { range, 'if-range': validator ?? '' }
    try {
      return (await follow(at, headers, { ...way, signal })).response
    } catch (error) {
      // Where they led to may have been signed for a while only.
      const isGone = error instanceof CodedError && /_(?:DENIED|NOT_FOUND)$/.test(error.code)
      if (!isGone) throw error
      const start = await address.start()
      if (start.url.href === at.url.href) throw error
      const again = await follow(start, headers, { ...way, signal })
      at = again.at
      return again.response
    }
  }

  function refusal(answer: Dispatcher.ResponseData, position: number): Error {
    discard(answer)
    const isOther =
      answer.statusCode === 206 ? saysOtherThan(validator, answer) : pinnedBy(answer) !== validator
    if (!isOther) return new RangesRefused(label)
    return new CodedError(
      'SOURCE_CHANGED',
      `${label} changed while it was downloaded (at byte ${position}); import it again`,
    )
  }

  return {
    address,
    length,
    validator,
    offset,
    takesRanges: /^bytes$/i.test(String(response.headers['accept-ranges'] ?? '')),
    first: offset > 0 && !isMidway ? skipping(response.body, offset) : response.body,
    async from(position) {
      if (validator === undefined) throw new RangesRefused(label)
      const answer = await ask(`bytes=${position}-`, way.signal)
      if (isRange(answer, `bytes ${position}-`, validator)) return answer.body
      if (answer.statusCode === 200 && pinnedBy(answer) === validator) {
        return skipping(answer.body, position)
      }
      throw refusal(answer, position)
    },
    async range({ start, end }, signal) {
      const answer = await ask(`bytes=${start}-${end - 1}`, signal)
      if (isRange(answer, `bytes ${start}-${end - 1}/`, validator)) return answer.body
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
  const range = `bytes ${place.offset}-${place.length - 1}/${place.length}`
  if (response.statusCode === 200 || isRange(response, range, place.pin)) return opened
  discard(response)
  return follow(start, {}, way)
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
