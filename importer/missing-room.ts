import { CodedError, toCodedError } from '../core/errors.ts'

/**
 * The failure of a disk that ran out of room, with how much may be missing where that is known: of
 * what is copied exactly, of what is encoded at most, as it is not known what it compresses to.
 * Other failures as they are.
 */
export function withMissingBytes(error: unknown, missingBytes: number): unknown {
  const failure = toCodedError(error)
  const isFull = failure.code === 'STORAGE_FULL' || failure.code === 'QUOTA_EXCEEDED'
  if (!isFull || missingBytes <= 0) return error
  return new CodedError(
    failure.code,
    `${failure.message}: up to ${missingBytes} bytes more than there was room for`,
    { cause: error, detail: { ...failure.detail, missingBytes } },
  )
}
