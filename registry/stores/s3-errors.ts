import { S3ServiceException } from '@aws-sdk/client-s3'
import type { ErrorCode } from '../../core/error-codes.ts'
import { CodedError } from '../../core/errors.ts'

/**
 * Refusals that pass by themselves although their status is below 500. Servers on a file system may
 * say that an object is a folder while a deletion nearby removes the folder it belongs to.
 */
const passingNames = [
  'ConditionalRequestConflict',
  'ExistingObjectIsDirectory',
  'IncompleteBody',
  'OperationAborted',
  'RequestTimeout',
  'SlowDown',
  'ThrottlingException',
  'TooManyRequests',
]

const fullNames = [
  'EntityQuotaExceeded',
  'InsufficientStorage',
  'QuotaExceeded',
  'StorageFull',
  'XMinioAdminBucketQuotaExceeded',
  'XMinioStorageFull',
]

/** What someone has to set right: credentials, bucket, region, clock, trust. */
const settingNames = [
  'AccessDenied',
  'AuthorizationHeaderMalformed',
  'CredentialsProviderError',
  'ExpiredToken',
  'Forbidden',
  'InvalidAccessKeyId',
  'InvalidBucketName',
  'InvalidToken',
  'NoSuchBucket',
  'NotImplemented',
  'PermanentRedirect',
  'RequestTimeTooSkewed',
  'SignatureDoesNotMatch',
]

/** System error codes of a server that does not answer (yet). */
const outageCodes = [
  'EAI_AGAIN',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ETIMEDOUT',
]

/** An attempt that got no answer in time. */
export class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError'
}

/** The status that S3 answered; 0 where it did not answer. */
export function statusOf(error: unknown): number {
  return error instanceof S3ServiceException ? (error.$metadata.httpStatusCode ?? 0) : 0
}

export function isS3Error(error: unknown, ...names: string[]): boolean {
  return error instanceof Error && names.includes(error.name)
}

/** True where there is nothing under the key; a HEAD has no body that could say more than 404. */
export function isMissing(error: unknown): boolean {
  return isS3Error(error, 'NoSuchKey', 'NotFound')
}

/** True where the condition of a write did not hold. */
export function isRefusedCondition(error: unknown): boolean {
  return statusOf(error) === 412 || isMissing(error)
}

/** True where the same request may succeed a little later. */
export function isPassing(error: unknown): boolean {
  if (error instanceof CodedError || isFull(error) || isSettingFault(error)) return false
  if (!(error instanceof S3ServiceException)) return isOutage(error)
  const status = statusOf(error)
  return status >= 500 || status === 429 || passingNames.includes(error.name)
}

function isOutage(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error instanceof NoAnswerError || error.name === 'TimeoutError') return true
  const code = 'code' in error ? String(error.code) : ''
  // undici's errors, and those of its parser.
  if (outageCodes.includes(code) || /^(?:UND_ERR|HPE)_/.test(code)) return true
  // What is not XML comes from something between us and the storage.
  return '$response' in error || isOutage(error.cause)
}

function isFull(error: unknown): boolean {
  return statusOf(error) === 507 || isS3Error(error, ...fullNames)
}

/** True for what a wrong setting causes; `error` may also be what `toStorageError` made of it. */
export function isSettingFault(error: unknown): boolean {
  if (error instanceof CodedError) return isSettingFault(error.cause)
  return (
    isS3Error(error, ...settingNames) || isUntrusted(error) || [301, 403].includes(statusOf(error))
  )
}

/** TLS that fails: no trust, another name, no TLS at all. */
function isUntrusted(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  return /CERT|SELF_SIGNED|UNABLE_TO|ERR_TLS|ERR_SSL|EPROTO/.test(String(error.code))
}

/** The one translation of what the storage refuses; `doing` says what was tried on which key. */
export function toStorageError(error: unknown, doing: string): CodedError {
  if (error instanceof CodedError) return error
  const [code, hint] = judge(error)
  return new CodedError(code, `cannot ${doing}: ${reasonOf(error)}; ${hint}`, { cause: error })
}

function judge(error: unknown): [ErrorCode, string] {
  if (isFull(error)) return ['STORAGE_FULL', 'free space or remove images, then retry']
  if (isUntrusted(error)) {
    return [
      'UNAVAILABLE',
      'check the endpoint, or name the authority to trust: --s3-ca (DVCR_S3_CA)',
    ]
  }
  if (isSettingFault(error)) {
    return ['UNAVAILABLE', 'check bucket, region, credentials and clock of the S3 storage']
  }
  if (isPassing(error)) return ['UNAVAILABLE', 'the S3 storage does not answer; try again later']
  return ['UNKNOWN', 'the S3 storage answered what was not expected']
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const status = statusOf(error)
  const said = error.message === '' || error.message === 'UnknownError' ? '' : `: ${error.message}`
  return status === 0 ? `${error.name}${said}` : `${status} ${error.name}${said}`
}
