import { CodedError } from '../../core/errors.ts'

const keyPattern = /^(?!.*(?:^|\/)\.{1,2}(?:\/|$))[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)*$/

export function isKey(text: string): boolean {
  return keyPattern.test(text)
}

/** `key` itself; one that could leave the store's place is a fault of ours. */
export function checkKey(key: string): string {
  if (isKey(key)) return key
  throw new CodedError('UNKNOWN', `not a storage key: ${JSON.stringify(key.slice(0, 300))}`)
}
