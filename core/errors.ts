/** What a code means to HTTP clients (`status`) and to retry loops (`retryable`). */
interface CodeFacts {
  readonly status: number
  readonly retryable: boolean
}

/**
 * Every failure the product can report. The first block is the OCI distribution spec's list
 * (spec §error-codes); the rest is ours. The same code appears in the HTTP body, the CLI's last
 * line, the import record and the metric. `docs/errors.md` explains each one.
 */
export const errorCodes = {
  BLOB_UNKNOWN: { status: 404, retryable: false },
  BLOB_UPLOAD_INVALID: { status: 400, retryable: false },
  BLOB_UPLOAD_UNKNOWN: { status: 404, retryable: false },
  DIGEST_INVALID: { status: 400, retryable: false },
  MANIFEST_BLOB_UNKNOWN: { status: 404, retryable: false },
  MANIFEST_INVALID: { status: 400, retryable: false },
  MANIFEST_UNKNOWN: { status: 404, retryable: false },
  NAME_INVALID: { status: 400, retryable: false },
  NAME_UNKNOWN: { status: 404, retryable: false },
  SIZE_INVALID: { status: 400, retryable: false },
  UNAUTHORIZED: { status: 401, retryable: false },
  DENIED: { status: 403, retryable: false },
  UNSUPPORTED: { status: 405, retryable: false },
  TOOMANYREQUESTS: { status: 429, retryable: true },

  RANGE_INVALID: { status: 416, retryable: false },
  MANIFEST_TOO_LARGE: { status: 413, retryable: false },
  TAG_INVALID: { status: 400, retryable: false },
  TAG_EXISTS: { status: 409, retryable: false },
  IMAGE_UNKNOWN: { status: 404, retryable: false },
  IMPORT_UNKNOWN: { status: 404, retryable: false },
  IDEMPOTENCY_CONFLICT: { status: 409, retryable: false },
  REQUEST_INVALID: { status: 400, retryable: false },
  MEDIA_TYPE_REFUSED: { status: 415, retryable: false },
  HOST_REFUSED: { status: 421, retryable: false },
  ORIGIN_REFUSED: { status: 403, retryable: false },

  SOURCE_INVALID: { status: 400, retryable: false },
  SOURCE_UNAVAILABLE: { status: 502, retryable: true },
  SOURCE_NOT_FOUND: { status: 422, retryable: false },
  SOURCE_DENIED: { status: 422, retryable: false },
  SOURCE_TLS_INVALID: { status: 422, retryable: false },
  SOURCE_TRUNCATED: { status: 502, retryable: true },
  SOURCE_CHANGED: { status: 422, retryable: false },
  CHECKSUM_MISMATCH: { status: 422, retryable: false },
  COMPRESSION_INVALID: { status: 422, retryable: false },
  FORMAT_UNKNOWN: { status: 422, retryable: false },
  FORMAT_UNSUPPORTED: { status: 422, retryable: false },
  IMAGE_UNSAFE: { status: 422, retryable: false },
  IMAGE_INCOMPLETE: { status: 422, retryable: false },
  SIZE_EXCEEDED: { status: 413, retryable: false },

  TARGET_UNAVAILABLE: { status: 502, retryable: true },
  STORAGE_FULL: { status: 507, retryable: true },
  STORE_LOCKED: { status: 503, retryable: true },
  LAYOUT_UNKNOWN: { status: 500, retryable: false },
  SETTING_INVALID: { status: 500, retryable: false },
  CANCELLED: { status: 409, retryable: false },
  UNAVAILABLE: { status: 503, retryable: true },
  UNKNOWN: { status: 500, retryable: false },
} as const satisfies Record<string, CodeFacts>

export type ErrorCode = keyof typeof errorCodes

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
export function reportedError(code: string, message: string, fallback: ErrorCode): CodedError {
  return new CodedError(isErrorCode(code) ? code : fallback, message)
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorCodes, code)
}
