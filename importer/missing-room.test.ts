import { expect, test } from 'vitest'
import { CodedError } from '../core/errors.ts'
import { withMissingBytes } from './missing-room.ts'

const enospc = Object.assign(new Error('write'), { code: 'ENOSPC' })
const quota = new CodedError('QUOTA_EXCEEDED', 'no more', { detail: { limitBytes: 7 } })

test.each([
  ['a full disk', enospc, 'STORAGE_FULL', {}],
  ['a quota', quota, 'QUOTA_EXCEEDED', { limitBytes: 7 }],
])('%s says how much is missing', (_what, error, code, detail) => {
  const failure = withMissingBytes(error, 5)
  expect(failure).toMatchObject({ code, detail: { ...detail, missingBytes: 5 } })
  expect(failure).toHaveProperty('message', expect.stringContaining('up to 5 bytes more'))
})

test('what is not known is not said, and other failures stay as they are', () => {
  expect(withMissingBytes(enospc, 0)).toBe(enospc)
  const other = new Error('other')
  expect(withMissingBytes(other, 5)).toBe(other)
})
