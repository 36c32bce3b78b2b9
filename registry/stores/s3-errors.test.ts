import { S3ServiceException } from '@aws-sdk/client-s3'
import { describe, expect, it } from 'vitest'
import { isPassing, isSettingFault, NoAnswerError, toStorageError } from './s3-errors.ts'

const answered = (status: number, name: string): Error =>
  new S3ServiceException({ name, $fault: 'client', $metadata: { httpStatusCode: status } })

const system = (code: string): Error => Object.assign(new Error(code), { code })

describe('what S3 refuses', () => {
  it.each([
    [answered(500, 'InternalError'), 'UNAVAILABLE', true, false],
    [answered(503, 'SlowDown'), 'UNAVAILABLE', true, false],
    [answered(409, 'ExistingObjectIsDirectory'), 'UNAVAILABLE', true, false],
    [answered(429, 'TooManyRequests'), 'UNAVAILABLE', true, false],
    [answered(409, 'ConditionalRequestConflict'), 'UNAVAILABLE', true, false],
    [answered(400, 'RequestTimeout'), 'UNAVAILABLE', true, false],
    [system('ECONNRESET'), 'UNAVAILABLE', true, false],
    [system('ECONNREFUSED'), 'UNAVAILABLE', true, false],
    [system('UND_ERR_SOCKET'), 'UNAVAILABLE', true, false],
    [new NoAnswerError('no answer'), 'UNAVAILABLE', true, false],
    [answered(507, 'InsufficientStorage'), 'STORAGE_FULL', false, false],
    [answered(400, 'XMinioStorageFull'), 'STORAGE_FULL', false, false],
    [answered(403, 'SignatureDoesNotMatch'), 'UNAVAILABLE', false, true],
    [answered(403, 'RequestTimeTooSkewed'), 'UNAVAILABLE', false, true],
    [answered(404, 'NoSuchBucket'), 'UNAVAILABLE', false, true],
    [answered(301, 'PermanentRedirect'), 'UNAVAILABLE', false, true],
    [system('DEPTH_ZERO_SELF_SIGNED_CERT'), 'UNAVAILABLE', false, true],
    [answered(400, 'InvalidArgument'), 'UNKNOWN', false, false],
    [new TypeError('a defect of ours'), 'UNKNOWN', false, false],
  ])('%s: %s, tried again: %s, a matter of settings: %s', (error, code, passes, isSetting) => {
    expect(toStorageError(error, 'store a key').code).toBe(code)
    expect(isPassing(error)).toBe(passes)
    expect(isSettingFault(error)).toBe(isSetting)
  })

  it('is said with what was tried, and the fault stays known', () => {
    const error = toStorageError(answered(403, 'AccessDenied'), 'store v1/a')
    expect(error.message).toMatch(/^cannot store v1\/a: 403 AccessDenied; check .*credentials/)
    expect(isSettingFault(error)).toBe(true)
    expect(toStorageError(error, 'do something else')).toBe(error)
  })
})
