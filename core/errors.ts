import { errorCodes, type ErrorCode } from './error-codes.ts'

export interface CodedErrorOptions extends ErrorOptions {
  /** Facts for machines; never a secret. Sent to clients as `detail`. */
  detail?: Record<string, unknown>
}

/**
 * The one failure type. `message` says what was tried, on what, why it failed and, where there is
 * one, the next step; it never holds a secret and is shown to clients for every code below 500
 * and for all of ours.
 */
export class CodedError extends Error {
  override readonly name = 'CodedError'
  readonly code: ErrorCode
  readonly detail: Readonly<Record<string, unknown>> | undefined

  constructor(code: ErrorCode, message: string, options: CodedErrorOptions = {}) {
    super(message, options)
    this.code = code
    this.detail = options.detail
  }

  get status(): number {
    return errorCodes[this.code].status
  }

  get retryable(): boolean {
    return errorCodes[this.code].retryable
  }
}

/** The funnel for edges: a `CodedError` as it is, a full disk as `STORAGE_FULL`, else `UNKNOWN`. */
export function toCodedError(error: unknown): CodedError {
  if (error instanceof CodedError) return error
  if (hasErrno(error, 'ENOSPC') || hasErrno(error, 'EDQUOT')) {
    return new CodedError(
      'STORAGE_FULL',
      'cannot write: no space left on the storage; free space or remove images, then retry',
      { cause: error },
    )
  }
  return new CodedError('UNKNOWN', 'internal error', { cause: error })
}

/** True for a Node system error with that `code` (`ENOENT`, `EEXIST`, …). */
export function hasErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}

/** An error as another process reported it; a code we do not know becomes `fallback`. */
export function reportedError(
  code: string,
  message: string,
  fallback: ErrorCode,
  options: CodedErrorOptions = {},
): CodedError {
  return new CodedError(isErrorCode(code) ? code : fallback, message, options)
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorCodes, code)
}
