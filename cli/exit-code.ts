import type { CodedError } from '../core/errors.ts'

/** What the shell learns of an outcome (`docs/cli.md`). */
export const exitCodes = {
  ok: 0,
  /** A failure that a retry will not mend. */
  failed: 1,
  /** Wrong usage or settings. */
  usage: 2,
  /** A failure that may pass: try again. */
  retryable: 3,
  /** Stopped by Ctrl-C or SIGTERM. */
  interrupted: 130,
} as const

const usageCodes: ReadonlySet<string> = new Set([
  'NAME_INVALID',
  'TAG_INVALID',
  'DIGEST_INVALID',
  'SOURCE_INVALID',
  'REQUEST_INVALID',
  'SETTING_INVALID',
])

export function exitCodeOf(error: CodedError): number {
  if (usageCodes.has(error.code)) return exitCodes.usage
  return error.retryable ? exitCodes.retryable : exitCodes.failed
}
