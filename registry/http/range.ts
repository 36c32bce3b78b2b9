import { CodedError } from '../../core/errors.ts'
import type { ByteRange } from '../../core/registry.ts'

/**
 * The bytes that a `Range` header asks for of `size` bytes. `undefined` means all of them: no
 * header, another unit, several ranges. Throws RANGE_INVALID where none of the bytes exist.
 * @see RFC 9110 §14.1.2
 */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined {
  // No two repeats that match the same: a header of 30 KB of spaces would take a second.
  const [, first, last] = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(header ?? '') ?? []
  if (first === undefined || last === undefined || first + last === '') return undefined
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size : Math.min(size, Number(last) + 1)
  if (start < end) return { start, end }
  throw new CodedError('RANGE_INVALID', `no bytes of the ${size} are in the range ${header}`, {
    detail: { size },
  })
}

/**
 * The half-open range of a chunk's `Content-Range: <first>-<last>`, also in the form
 * `bytes <first>-<last>/<total>`. Throws RANGE_INVALID for anything else.
 * @see OCI distribution-spec §pushing-a-blob-in-chunks
 */
export function parseContentRange(header: string): ByteRange {
  const [, first, last] = /^(?:bytes )?(\d{1,15})-(\d{1,15})(?:\/(?:\d+|\*))?$/.exec(header) ?? []
  const range = { start: Number(first), end: Number(last) + 1 }
  if (range.start < range.end) return range
  throw new CodedError(
    'RANGE_INVALID',
    `not a chunk's range: ${JSON.stringify(header.slice(0, 100))}; expected <first byte>-<last byte>`,
  )
}
