import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatChallenge, formatScope, parseChallenges, parseScopes } from './auth-challenge.ts'

describe('parseChallenges', () => {
  it('reads what registries send', () => {
    const docker =
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'
    expect(parseChallenges(docker)).toEqual([
      {
        scheme: 'bearer',
        parameters: {
          realm: 'https://auth.docker.io/token',
          service: 'registry.docker.io',
          scope: 'repository:a/b:pull,push',
        },
      },
    ])
    const several = 'Negotiate, NTLM TlRMTVNTUAAB==, BEARER Realm=x , error="a\\"b", Basic realm=""'
    expect(parseChallenges(several)).toEqual([
      { scheme: 'negotiate', parameters: {} },
      { scheme: 'ntlm', parameters: {} },
      { scheme: 'bearer', parameters: { realm: 'x', error: 'a"b' } },
      { scheme: 'basic', parameters: { realm: '' } },
    ])
  })

  it('keeps what it understood of a header that is damaged', () => {
    expect(parseChallenges('Basic realm="x", "y')).toEqual([
      { scheme: 'basic', parameters: { realm: 'x' } },
    ])
    expect(parseChallenges('=')).toEqual([])
    expect(parseChallenges('')).toEqual([])
  })

  const word = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/)
  const value = fc.stringMatching(/^[\x20-\x7e]{0,30}$/)
  const challenge = fc.record({
    scheme: word,
    parameters: fc.dictionary(word, value, { minKeys: 1, maxKeys: 5, noNullPrototype: true }),
  })

  it('reads back any challenges that were written', () => {
    fc.assert(
      fc.property(fc.array(challenge, { maxLength: 4 }), (challenges) => {
        const header = challenges.map(formatChallenge).join(', ')
        expect(parseChallenges(header)).toEqual(challenges)
      }),
    )
  })

  it('answers any header in a moment', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300, unit: 'binary' }), (header) => {
        expect(Array.isArray(parseChallenges(header))).toBe(true)
      }),
    )
    const long = `Basic ${'a="'.repeat(20_000)}`
    expect(parseChallenges(long).length).toBeLessThan(2)
  })
})

describe('parseScopes', () => {
  it('reads types, names with colons and several actions', () => {
    expect(parseScopes('repository:a/b:pull,push registry:catalog:*')).toEqual([
      { type: 'repository', name: 'a/b', actions: ['pull', 'push'] },
      { type: 'registry', name: 'catalog', actions: ['*'] },
    ])
    expect(parseScopes('repository(plugin):host:5000/a:pull')).toEqual([
      { type: 'repository', name: 'host:5000/a', actions: ['pull'] },
    ])
    expect(parseScopes(' repository:a/b: nonsense repository::pull ')).toEqual([
      { type: 'repository', name: 'a/b', actions: [] },
    ])
  })

  it('reads back what was written', () => {
    const scope = fc.record({
      type: fc.stringMatching(/^[a-z0-9]{1,10}$/),
      name: fc.stringMatching(/^[a-z0-9][a-z0-9:/._-]{0,20}$/),
      actions: fc.array(fc.stringMatching(/^(?:\*|[a-z]{1,8})$/), { maxLength: 4 }),
    })
    fc.assert(
      fc.property(fc.array(scope, { maxLength: 4 }), (scopes) => {
        expect(parseScopes(scopes.map(formatScope).join(' '))).toEqual(scopes)
      }),
    )
  })
})
