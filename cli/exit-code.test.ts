import { expect, test } from 'vitest'
import { CodedError } from '../core/errors.ts'
import { exitCodeOf, exitCodes } from './exit-code.ts'

test.each([
  ['TAG_INVALID', exitCodes.usage],
  ['NAME_INVALID', exitCodes.usage],
  ['SOURCE_INVALID', exitCodes.usage],
  ['SETTING_INVALID', exitCodes.usage],
  ['CHECKSUM_MISMATCH', exitCodes.failed],
  ['TAG_EXISTS', exitCodes.failed],
  ['UNKNOWN', exitCodes.failed],
  ['CANCELLED', exitCodes.failed],
  ['SOURCE_UNAVAILABLE', exitCodes.retryable],
  ['TARGET_UNAVAILABLE', exitCodes.retryable],
  ['STORE_LOCKED', exitCodes.retryable],
  ['STORAGE_FULL', exitCodes.retryable],
] as const)('%s ends with %d', (code, exitCode) => {
  expect(exitCodeOf(new CodedError(code, ''))).toBe(exitCode)
})

test('the codes are those that the documentation promises', () => {
  expect(exitCodes).toEqual({ ok: 0, failed: 1, usage: 2, retryable: 3, interrupted: 130 })
})
