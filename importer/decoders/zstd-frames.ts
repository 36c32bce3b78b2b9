import { CodedError } from '../../core/errors.ts'
import type { Bytes } from '../../core/streams.ts'
import { zstdFields } from '../../core/zstd-frame.ts'

/**
 * The same bytes; throws COMPRESSION_INVALID where they end inside a frame. Node's decoder does
 * that too, except in the first three bytes of a further frame, which it takes for nothing.
 * @see RFC 8878 §3.1
 */
export async function* wholeFrames(body: Bytes): AsyncGenerator<Uint8Array, void> {
  const fields = zstdFields()
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
