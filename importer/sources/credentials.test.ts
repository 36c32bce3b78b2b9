import { assert, constantFrom, property, string } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { credentialsSchema, headersOf, loginOf, separateUserInfo } from './credentials.ts'
import { withoutSecrets } from './http-request.ts'

describe('credentials of a request', () => {
  test.each([
    {},
    { user: 'me', password: 'p:%@ ü' },
    { token: 'a.b-c' },
    { headers: { 'X-Key': 'secret', Cookie: 'a=b' } },
    { headers: Object.fromEntries(Array.from({ length: 32 }, (_, at) => [`x-${at}`, 'v'])) },
  ])('%o are taken', (credentials) => {
    expect(credentialsSchema.safeParse(credentials).success).toBe(true)
  })

  test.each([
    { password: 'p' },
    { user: '' },
    { user: 'a\nb' },
    { user: 'a', password: 'b\0' },
    { user: 'x'.repeat(1025) },
    { token: 'a b' },
    { other: 'secret' },
    { headers: { 'x y': 'secret' } },
    { headers: { x: 'a\r\nb: c' } },
    { headers: { x: 'ł' } },
    { headers: { x: 'v'.repeat(16 * 1024) } },
    { headers: Object.fromEntries(Array.from({ length: 33 }, (_, at) => [`x-${at}`, 'v'])) },
    ...[
      ['Host', 'Range', 'If-Range', 'if-none-match', 'Connection', 'TE', 'Upgrade', 'Trailer'],
      ['Transfer-Encoding', 'Content-Length', 'Expect', 'Proxy-Authorization', 'Accept-Encoding'],
    ]
      .flat()
      .map((name) => ({ headers: { [name]: 'secret' } })),
  ])('%o are refused, and nothing of them is told', (credentials) => {
    const { success, error } = credentialsSchema.safeParse(credentials)
    expect(success).toBe(false)
    expect(error?.message).not.toContain('secret')
  })

  test('become headers, or a login', () => {
    const basic = `Basic ${Buffer.from('me:p').toString('base64')}`
    expect(headersOf({ user: 'me', password: 'p' })).toEqual({ authorization: basic })
    expect(headersOf({ token: 't', headers: { x: '1' } })).toEqual({
      x: '1',
      authorization: 'Bearer t',
    })
    expect(headersOf({})).toEqual({})
    expect(loginOf({ token: 't' })).toEqual({ kind: 'identity', token: 't' })
    expect(loginOf({})).toBeUndefined()
  })
})

describe('user info of an address', () => {
  test.each([
    ['http://me:p%40@h/a?b#c', 'http://h/a?b#c', { user: 'me', password: 'p@' }],
    ['https://me@h:1/a@b', 'https://h:1/a@b', { user: 'me' }],
    ['http://a@b:c@h/', 'http://h/', { user: 'a@b', password: 'c' }],
    ['http://h/a@b', 'http://h/a@b', undefined],
    ['docker://h/a@sha256:x', 'docker://h/a@sha256:x', undefined],
    ['http:me:p@h/', 'http:h/', { user: 'me', password: 'p' }],
  ])('of %s is taken out', (text, source, credentials) => {
    expect(separateUserInfo(text, undefined)).toEqual({ source, credentials })
  })

  test('is found wherever the parser of addresses finds it', () => {
    const part = string({
      unit: constantFrom('a', ':', '@', '%41', '\\', '/', '?', '#', '\t'),
    })
    assert(
      property(part, part, (info, rest) => {
        const text = `http://${info}@h${rest}`
        if (!URL.canParse(text)) return
        const before = new URL(text)
        let source: string
        try {
          source = separateUserInfo(text, undefined).source
        } catch {
          // Refused: nothing is kept.
          return
        }
        const after = new URL(source)
        expect([after.username, after.password]).toEqual(['', ''])
        expect([after.host, after.pathname, after.search]).toEqual([
          before.host,
          before.pathname,
          before.search,
        ])
      }),
    )
  })

  test.each(['http://me:secret@[/', '//me:secret@h', 'me:secret@h?secret', 'x://secret@h/#secret'])(
    'of %s, which is none, is not shown',
    (text) => {
      expect(withoutSecrets(text)).not.toContain('secret')
    },
  )
})
