import { expect, test } from 'vitest'
import { errorCodes } from './error-codes.ts'
import { CodedError, hasErrno, reportedError, toCodedError } from './errors.ts'

const systemError = (code: string): Error => Object.assign(new Error(code), { code })

test('a coded error keeps what it was made of', () => {
  const cause = new Error('why')
  const error = new CodedError('TAG_EXISTS', 'no', { cause, detail: { tag: 'v1' } })
  expect(error).toMatchObject({
    name: 'CodedError',
    code: 'TAG_EXISTS',
    message: 'no',
    cause,
    detail: { tag: 'v1' },
    status: 409,
    retryable: false,
  })
  expect(toCodedError(error)).toBe(error)
})

test('what passes by itself is worth a retry, what does not is not', () => {
  const codes = Object.entries(errorCodes)
  const retryable = codes.filter(([, facts]) => facts.retryable).map(([code]) => code)
  expect(retryable).toEqual([
    'TOOMANYREQUESTS',
    'SOURCE_UNAVAILABLE',
    'SOURCE_TRUNCATED',
    'TARGET_UNAVAILABLE',
    'UPSTREAM_UNAVAILABLE',
    'STORAGE_FULL',
    'STORE_LOCKED',
    'UNAVAILABLE',
  ])
  for (const [, { status }] of codes) expect(status).toSatisfy((s: number) => s >= 400 && s < 600)
})

test('a full disk is told as such, anything else keeps its words to itself', () => {
  for (const code of ['ENOSPC', 'EDQUOT']) {
    expect(toCodedError(systemError(code))).toMatchObject({ code: 'STORAGE_FULL', retryable: true })
  }
  for (const error of [systemError('EIO'), 'text', undefined]) {
    const coded = toCodedError(error)
    expect(coded).toMatchObject({ code: 'UNKNOWN', message: 'internal error', cause: error })
  }
})

test('an errno is found on system errors only', () => {
  expect(hasErrno(systemError('ENOENT'), 'ENOENT')).toBe(true)
  expect(hasErrno(systemError('ENOENT'), 'EEXIST')).toBe(false)
  expect(hasErrno({ code: 'ENOENT' }, 'ENOENT')).toBe(false)
  expect(hasErrno(undefined, 'ENOENT')).toBe(false)
})

test('a code of another process is taken where we know it', () => {
  expect(reportedError('TAG_EXISTS', 'm', 'UNKNOWN')).toMatchObject({ code: 'TAG_EXISTS' })
  for (const code of ['', 'NEW_CODE', 'toString', '__proto__', 'constructor']) {
    expect(reportedError(code, 'm', 'TARGET_UNAVAILABLE')).toMatchObject({
      code: 'TARGET_UNAVAILABLE',
      message: 'm',
    })
  }
})
