import { CodedError } from '../../core/errors.ts'

/**
 * What may follow the end of compressed data in every format: zeros, as tapes and devices are
 * filled up with. Throws COMPRESSION_INVALID for anything else; `name` is the format's.
 */
export function assertPadding(bytes: Uint8Array, name: string): void {
  if (bytes.length === 0) return
  const { buffer, byteOffset, length } = bytes
  // A comparison with itself, one byte on, is a call and not a loop.
  const later = Buffer.from(buffer, byteOffset + 1, length - 1)
  if (bytes[0] === 0 && later.equals(Buffer.from(buffer, byteOffset, length - 1))) return
  throw new CodedError(
    'COMPRESSION_INVALID',
    `cannot decompress ${name}: other bytes follow its end; the file is damaged or was joined with another`,
  )
}
