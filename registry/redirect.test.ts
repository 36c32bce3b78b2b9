import { describe, expect, it } from 'vitest'
import { redirectOf, type Redirectable } from './redirect.ts'

const size = 5_000_000
const url = 'https://bucket.example:9000/key?signature'
const blob: Redirectable = { size, presign: async () => url }

describe('redirectOf', () => {
  it.each([
    ['never', { mode: 'never', isPublic: true }, blob, 'registry.example', undefined],
    ['a public storage', { mode: 'auto', isPublic: true }, blob, 'registry.example', url],
    ['a storage clients may not reach', { mode: 'auto', isPublic: false }, blob, 'r', undefined],
    ['a small blob', { mode: 'auto', isPublic: true }, { ...blob, size: 9 }, 'r', undefined],
    ['one host for both', { mode: 'auto', isPublic: true }, blob, 'bucket.example', undefined],
    ['always', { mode: 'always', isPublic: false }, { ...blob, size: 9 }, 'bucket.example', url],
    [
      'storage without URLs',
      { mode: 'always', isPublic: true },
      { size, presign: async (): Promise<undefined> => undefined },
      'r',
      undefined,
    ],
  ] as const)('%s', async (_, policy, asked, hostname, expected) => {
    expect(await redirectOf(asked, policy, hostname)).toBe(expected)
  })
})
