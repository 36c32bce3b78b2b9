import { CodedError } from '../core/errors.ts'
import type { Bytes } from '../core/streams.ts'

const frameMagic = 0xfd2fb528
const skippableMagic = 0x184d2a50
const checksumFlag = 4
const runLengthBlock = 1

/**
 * The same bytes; throws COMPRESSION_INVALID where they end inside a frame. Node's decoder does
 * that too, except in the first three bytes of a further frame, which it takes for nothing.
 * @see RFC 8878 §3.1
 */
export async function* wholeFrames(body: Bytes): AsyncGenerator<Uint8Array, void> {
  const fields = frameFields()
  let field = fields.next(0)
  let taken = 0
  let value = 0
  for await (const chunk of body) {
    for (let at = 0; field.done !== true;) {
      const { size } = field.value
      if (taken === size) {
        field = fields.next(value)
        taken = 0
        value = 0
      } else if (at === chunk.length) {
        break
      } else if (size <= 4) {
        value += (chunk[at++] ?? 0) * 256 ** taken++
      } else {
        const part = Math.min(size - taken, chunk.length - at)
        taken += part
        at += part
      }
    }
    yield chunk
  }
  if (field.done === true || (field.value.startsFrame && taken === 0)) return
  throw new CodedError(
    'COMPRESSION_INVALID',
    'cannot decompress zstd: it ends too early; the file is truncated',
  )
}

interface Field {
  readonly size: number
  readonly startsFrame: boolean
}

/** Asks for one field after the other and is told the value of those up to 4 bytes. */
function* frameFields(): Generator<Field, void, number> {
  const field = (size: number): Field => ({ size, startsFrame: false })
  for (;;) {
    const magic = yield { size: 4, startsFrame: true }
    if (magic >= skippableMagic && magic < skippableMagic + 16) {
      yield field(yield field(4))
      continue
    }
    // The decoder refuses it.
    if (magic !== frameMagic) return
    const descriptor = yield field(1)
    yield field(headerSize(descriptor))
    for (let last = 0; last === 0;) {
      const block = yield field(3)
      last = block & 1
      yield field(((block >> 1) & 3) === runLengthBlock ? 1 : block >> 3)
    }
    if (descriptor & checksumFlag) yield field(4)
  }
}

/** Bytes of window descriptor, dictionary id and content size. */
function headerSize(descriptor: number): number {
  const isSingleSegment = (descriptor & 0x20) !== 0
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0
  const contentSize = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
  return (isSingleSegment ? 0 : 1) + dictionary + contentSize
}
