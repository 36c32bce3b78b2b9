import { CodedError } from '../core/errors.ts'
import { observed, type Bytes } from '../core/streams.ts'
import type { IncomingDisk } from './pack.ts'

/** What a file may hold beside twice its disk: tables, a whole block of a small disk, a log. */
const mostBesideDisk = 512 * 1024 * 1024

/**
 * The disk's bytes. Where nobody has said how many, a file may not go on for ever behind the disk that
 * its header says: what decompression makes of few bytes would be written. Room is left for
 * clusters that nothing uses any more. Throws SIZE_EXCEEDED.
 */
export function bounded({ body, start, length, detected }: IncomingDisk): Bytes {
  const { format, virtualSize } = detected
  if (length !== undefined || virtualSize === undefined) return body
  const most = 2 * virtualSize + mostBesideDisk
  let size = start
  return observed(body, (chunk) => {
    size += chunk.length
    if (size <= most) return
    throw new CodedError(
      'SIZE_EXCEEDED',
      `the ${format} goes on after ${most} bytes, though its header says a disk of ${virtualSize}; write it anew with qemu-img convert`,
    )
  })
}
