import type { ErrorCode } from '../../core/error-codes.ts'
import { CodedError, toCodedError } from '../../core/errors.ts'

/** What a failed request is answered with. @see OCI distribution-spec §error-codes */
export interface Failure {
  readonly status: number
  readonly code: ErrorCode
  readonly body: {
    readonly errors: readonly [
      {
        readonly code: string
        readonly message: string
        readonly detail?: Readonly<Record<string, unknown>>
      },
    ]
  }
}

/** Codes of ours that clients of the spec know under another name; ours is then in `detail`. */
const specCodes: Partial<Record<ErrorCode, ErrorCode>> = {
  MANIFEST_TOO_LARGE: 'SIZE_INVALID',
  TAG_EXISTS: 'DENIED',
  TAGS_TOO_MANY: 'UNSUPPORTED',
  TAG_IMMUTABLE: 'DENIED',
  QUOTA_EXCEEDED: 'DENIED',
  HOST_REFUSED: 'DENIED',
  ORIGIN_REFUSED: 'DENIED',
  MEDIA_TYPE_REFUSED: 'UNSUPPORTED',
  REQUEST_INVALID: 'UNSUPPORTED',
}

/**
 * A failure in the spec's form; one that is not ours says nothing about its cause. `vocabulary`:
 * whether the code must be one that clients of the spec know.
 */
export function describeFailure(error: unknown, vocabulary: 'spec' | 'ours'): Failure {
  const refused = frameworkRefusal(error)
  const { code, status, message, detail } = refused?.error ?? toCodedError(error)
  const specCode = vocabulary === 'spec' ? specCodes[code] : undefined
  const facts = specCode ? { ...detail, code } : detail
  return {
    status: refused?.status ?? status,
    code,
    body: {
      errors: [
        {
          code: specCode ?? code,
          message: code === 'UNKNOWN' ? 'internal error' : message,
          ...(facts ? { detail: facts } : {}),
        },
      ],
    },
  }
}

/** Fastify's own 4xx: a body that does not parse, a media type it does not know, … */
function frameworkRefusal(error: unknown): { status: number; error: CodedError } | undefined {
  if (error instanceof CodedError || !(error instanceof Error)) return undefined
  if (!('statusCode' in error) || typeof error.statusCode !== 'number') return undefined
  if (error.statusCode < 400 || error.statusCode >= 500) return undefined
  const refused = new CodedError('REQUEST_INVALID', error.message, { cause: error })
  return { status: error.statusCode, error: refused }
}
