import { decodeJwt, SignJWT, UnsecuredJWT } from 'jose'
import { describe, expect, it } from 'vitest'
import { createMemoryObjects } from '../../test/model/memory-objects.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { anonymous, type Identity } from './identity.ts'
import { createTokenKeys } from './token-keys.ts'
import { createTokens } from './tokens.ts'

const dayMs = 24 * 60 * 60_000
const alice: Identity = { kind: 'user', name: 'alice', groups: ['devs'] }
const scopes = [{ type: 'repository', name: 'a/b', actions: ['pull'] }]

function service(objects = createMemoryObjects(), lifetime = 300) {
  const keys = createTokenKeys(objects)
  return { objects, keys, tokens: createTokens({ keys, seconds: () => lifetime }) }
}

describe('tokens', () => {
  it('say who and what for, for five minutes', async () => {
    const { tokens } = service()
    const { token, seconds } = await tokens.issue({ identity: alice, scopes })
    expect(seconds).toBe(300)
    const { identity, scopes: found } = await tokens.verify(token)
    expect(identity).toMatchObject(alice)
    expect(found).toEqual(scopes)
    const { exp = 0, iat = 0, access } = decodeJwt(token)
    expect(exp - iat).toBe(300)
    expect(access).toEqual(scopes)
  })

  it('of one replica are good at another', async () => {
    const { objects, tokens } = service()
    const others = await Promise.all(
      Array.from({ length: 5 }, () =>
        service(objects).tokens.issue({ identity: anonymous, scopes }),
      ),
    )
    for (const { token } of others) {
      expect((await tokens.verify(token)).identity.kind).toBe('anonymous')
    }
    expect(await objects.list('v1/auth/', {})).toHaveLength(1)
  })

  it('never outlive the credentials that they stand for', async () => {
    const { tokens } = service()
    const identity = { ...alice, expiresAt: Date.now() + 60_000 }
    expect((await tokens.issue({ identity, scopes })).seconds).toBeLessThanOrEqual(60)
  })

  it('are refused once they have expired, remembered or not', async () => {
    const { keys, tokens } = service()
    const past = Math.floor(Date.now() / 1000) - 31
    const { id, secret } = await keys.current()
    const sign = (until: number) =>
      new SignJWT({ kind: 'user', access: [] })
        .setProtectedHeader({ alg: 'HS256', kid: id })
        .setIssuer('dvcr')
        .setAudience('dvcr')
        .setSubject('alice')
        .setExpirationTime(until)
        .sign(secret)
    expect(await refusalIn(tokens.verify(await sign(past)))).toBe('UNAUTHORIZED')
    const ending = await sign(past + 4)
    expect((await tokens.verify(ending)).identity.name).toBe('alice')
    await expect
      .poll(() => refusalIn(tokens.verify(ending)), { timeout: 20_000 })
      .toBe('UNAUTHORIZED')
  })

  it('are refused where anything about them is not ours', async () => {
    const { keys, tokens } = service()
    const { id, secret } = await keys.current()
    const claims = { kind: 'user', access: [] }
    const signed = (change: {
      aud?: string
      iss?: string
      kid?: string
      alg?: string
      key?: Uint8Array
    }) =>
      new SignJWT(claims)
        .setProtectedHeader({ alg: change.alg ?? 'HS256', kid: change.kid ?? id })
        .setIssuer(change.iss ?? 'dvcr')
        .setAudience(change.aud ?? 'dvcr')
        .setSubject('alice')
        .setExpirationTime('5m')
        .sign(change.key ?? secret)
    expect((await tokens.verify(await signed({}))).identity.name).toBe('alice')
    const bad = [
      await signed({ aud: 'other' }),
      await signed({ iss: 'other' }),
      await signed({ kid: '1' }),
      await signed({ kid: '../../layout' }),
      await signed({ alg: 'HS512', key: Buffer.concat([secret, secret]) }),
      await signed({ key: new Uint8Array(32) }),
      new UnsecuredJWT(claims).setIssuer('dvcr').setAudience('dvcr').setSubject('alice').encode(),
      'a.b.c',
      'not a token',
      '',
    ]
    const refusals = await Promise.all(bad.map((token) => refusalIn(tokens.verify(token))))
    expect(refusals).toEqual(bad.map(() => 'UNAUTHORIZED'))
  })

  it('with a cut or changed letter are refused', async () => {
    const { tokens } = service()
    const { token } = await tokens.issue({ identity: alice, scopes })
    // The last letter has bits that mean nothing.
    for (let at = 0; at < token.length - 1; at += 7) {
      const changed = token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1)
      expect([at, await refusalIn(tokens.verify(changed))]).toEqual([at, 'UNAUTHORIZED'])
      expect(await refusalIn(tokens.verify(token.slice(0, at)))).toBe('UNAUTHORIZED')
    }
  })
})

describe('token keys', () => {
  it('change every 30 days; the last one still verifies, older ones go', async () => {
    const objects = createMemoryObjects()
    let nowMs = 1000 * dayMs
    const keys = createTokenKeys(objects, () => nowMs)
    const replica = createTokenKeys(objects, () => nowMs)
    const first = await keys.current()
    nowMs += 30 * dayMs
    const second = await keys.current()
    expect(second.id).not.toBe(first.id)
    expect(await replica.find(first.id)).toEqual(first)
    expect(await replica.current()).toEqual(second)
    nowMs += 30 * dayMs
    const third = await replica.current()
    expect(await keys.find(first.id)).toBeUndefined()
    expect(await keys.find(third.id)).toEqual(third)
    const stored = await objects.list('v1/auth/token-keys/', {})
    expect(stored.map((key) => /(\d+)\.json$/.exec(key)?.[1])).toEqual([second.id, third.id])
  })

  it('that nobody made cost one look in five seconds, however often strangers name them', async () => {
    const objects = createMemoryObjects()
    let looks = 0
    const counted = {
      ...objects,
      get(key: string) {
        looks++
        return objects.get(key)
      },
    }
    let nowMs = 1000 * dayMs
    const keys = createTokenKeys(counted, () => nowMs)
    const { id } = await keys.current()
    looks = 0
    for (let times = 0; times < 5; times++) {
      expect(await keys.find(String(Number(id) - 1))).toBeUndefined()
      expect(await keys.find('1')).toBeUndefined()
    }
    expect(looks).toBe(1)
    nowMs += 5000
    await keys.find(String(Number(id) - 1))
    expect(looks).toBe(2)
  })

  it('are one, however many replicas make it at once', async () => {
    const objects = createMemoryObjects()
    const made = await Promise.all(
      Array.from({ length: 10 }, () => createTokenKeys(objects).current()),
    )
    expect(new Set(made.map(({ secret }) => Buffer.from(secret).toString('hex'))).size).toBe(1)
  })
})
