import type { DiskFormat } from '../../core/disk-format.ts'
import { CodedError } from '../../core/errors.ts'

/** What reaches outside of the image, or breaks its format. */
export function imageUnsafe(format: DiskFormat, reason: string): CodedError {
  return new CodedError('IMAGE_UNSAFE', `the ${format} is refused: ${reason}`)
}
