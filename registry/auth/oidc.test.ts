import { createServer } from 'node:https'
import { readFile } from 'node:fs/promises'
import {
  exportJWK,
  exportSPKI,
  generateKeyPair,
  SignJWT,
  UnsecuredJWT,
  type CryptoKey,
  type JWTPayload,
} from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import { createAuthority } from '../../test/fixtures/certificates.ts'
import { listenOnLoopback } from '../../test/fixtures/ports.ts'
import { refusalIn, refusalOf } from '../../test/fixtures/refusal.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { startWebServer } from '../../test/fixtures/web-server.ts'
import { createOidcProvider, parseJwks, type OidcOptions } from './oidc.ts'

let keys: { readonly publicKey: CryptoKey; readonly privateKey: CryptoKey }
let otherKeys: typeof keys
let jwks: string

beforeAll(async () => {
  keys = await generateKeyPair('ES256', { extractable: true })
  otherKeys = await generateKeyPair('ES256')
  jwks = JSON.stringify({ keys: [{ ...(await exportJWK(keys.publicKey)), kid: 'one' }] })
})

const issuer = 'https://issuer.example'
const bearer = (token: string) => ({ kind: 'bearer', token }) as const

interface Change {
  readonly claims?: JWTPayload
  readonly without?: string
  readonly key?: CryptoKey | Uint8Array
  readonly header?: { readonly alg?: string; readonly kid?: string }
}

function sign({ claims, without, key, header }: Change = {}): Promise<string> {
  const payload: JWTPayload = {
    iss: issuer,
    aud: 'dvcr',
    sub: 'alice',
    exp: Math.floor(Date.now() / 1000) + 300,
    ...claims,
  }
  if (without !== undefined) delete payload[without]
  return new SignJWT(payload)
    .setProtectedHeader({ alg: 'ES256', kid: 'one', ...header })
    .sign(key ?? keys.privateKey)
}

function provider(change: Partial<OidcOptions> = {}) {
  return createOidcProvider({
    issuer,
    audience: 'dvcr',
    jwks: { keys: parseJwks(jwks, 'jwks.json') },
    ca: undefined,
    algorithms: ['ES256'],
    clockSkewSeconds: 10,
    nameClaim: 'sub',
    groupsClaim: 'groups',
    prefix: 'corp:',
    ...change,
  })
}

describe('an OpenID provider', () => {
  it('names users and groups by claims, with its prefix', async () => {
    await using plain = provider()
    const token = await sign({ claims: { groups: ['devs', 7, 'ops'] } })
    const alice = { kind: 'user', name: 'corp:alice', groups: ['corp:devs', 'corp:ops'] }
    expect(await plain(bearer(token))).toMatchObject(alice)
    expect(await plain({ kind: 'basic', user: 'x', password: token })).toMatchObject(alice)
    await using nested = provider({
      nameClaim: 'user.name',
      groupsClaim: 'realm.roles',
      prefix: '',
    })
    const claims = { user: { name: 'bob' }, realm: { roles: 'one' } }
    expect(await nested(bearer(await sign({ claims })))).toMatchObject({
      name: 'bob',
      groups: ['one'],
    })
  })

  it('leaves to others what is not of its issuer', async () => {
    await using found = provider()
    const other = await sign({ claims: { iss: 'https://other.example' } })
    for (const token of [other, 'a.b.c', 'word', '']) {
      expect(await found(bearer(token))).toBeUndefined()
    }
    expect(await found({ kind: 'none' })).toBeUndefined()
  })

  it('refuses a token that is not for us, not now, or not signed by it', async () => {
    await using found = provider()
    const now = Math.floor(Date.now() / 1000)
    const spki = Buffer.from(await exportSPKI(keys.publicKey))
    const bad = {
      audience: await sign({ claims: { aud: 'other' } }),
      'no audience': await sign({ without: 'aud' }),
      expired: await sign({ claims: { exp: now - 11 } }),
      'without an end': await sign({ without: 'exp' }),
      'not yet': await sign({ claims: { nbf: now + 60 } }),
      'of another key': await sign({ key: otherKeys.privateKey }),
      'of an unknown key': await sign({ header: { kid: 'two' } }),
      'signed with the public key as a secret': await sign({ key: spki, header: { alg: 'HS256' } }),
      unsigned: new UnsecuredJWT({
        iss: issuer,
        aud: 'dvcr',
        sub: 'alice',
        exp: now + 60,
      }).encode(),
      nameless: await sign({ without: 'sub' }),
      'named by no text': await sign({ claims: { sub: '' } }),
    }
    for (const [what, token] of Object.entries(bad)) {
      expect([what, await refusalIn(found(bearer(token)))]).toEqual([what, 'UNAUTHORIZED'])
    }
  })

  it('takes clocks that differ a little', async () => {
    await using found = provider()
    const late = await sign({ claims: { exp: Math.floor(Date.now() / 1000) - 5 } })
    expect((await found(bearer(late)))?.name).toBe('corp:alice')
  })

  it('refuses an address that the issuer has not verified', async () => {
    await using found = provider({ nameClaim: 'email' })
    const token = (verified: unknown) =>
      sign({ claims: { email: 'a@example.org', email_verified: verified } })
    expect((await found(bearer(await token(true))))?.name).toBe('corp:a@example.org')
    // Some issuers write it as text.
    expect((await found(bearer(await token('true'))))?.name).toBe('corp:a@example.org')
    for (const no of [false, 'false', null, 0, '']) {
      expect(await refusalIn(found(bearer(await token(no))))).toBe('UNAUTHORIZED')
    }
  })

  it('takes no shared secret and no nonsense for keys', () => {
    const oct = { keys: [{ kty: 'oct', k: 'c2VjcmV0' }] }
    for (const text of [JSON.stringify(oct), '{"keys":[]}', '{}', 'x']) {
      expect(refusalOf(() => parseJwks(text, 'f'))).toBe('SETTING_INVALID')
    }
  })
})

describe('keys by URL', () => {
  it('are fetched once, and again for a key that is new', async () => {
    let served = jwks
    await using web = await startWebServer((_request, response) => response.end(served))
    await using found = provider({ jwks: { url: `${web.origin}/keys` } })
    const tokens = await Promise.all(['a', 'b', 'c', 'd'].map((sub) => sign({ claims: { sub } })))
    const names = await Promise.all(tokens.map((token) => found(bearer(token))))
    expect(names.map((one) => one?.name)).toEqual(['corp:a', 'corp:b', 'corp:c', 'corp:d'])
    expect(web.requests).toHaveLength(1)
    served = JSON.stringify({
      keys: [{ ...(await exportJWK(otherKeys.publicKey)), kid: 'two' }],
    })
    // Strangers could otherwise have us ask as often as they like.
    const next = await sign({ key: otherKeys.privateKey, header: { kid: 'two' } })
    expect(await refusalIn(found(bearer(next)))).toBe('UNAUTHORIZED')
    expect(web.requests).toHaveLength(1)
  })

  it('that cannot be had are a fault of ours, asked for once in a while', async () => {
    await using web = await startWebServer((_request, response) =>
      response.writeHead(500).end('no'),
    )
    await using found = provider({ jwks: { url: `${web.origin}/keys` } })
    for (let count = 0; count < 5; count += 1) {
      expect(await refusalIn(found(bearer(await sign())))).toBe('UNAVAILABLE')
    }
    expect(web.requests).toHaveLength(1)
  })

  it('are found over TLS by the discovery document of the issuer that it names', async () => {
    await using folder = await createTempFolder()
    const authority = await createAuthority(folder.path)
    const files = await authority.issue('issuer')
    const [key, cert, ca] = await Promise.all([
      readFile(files.key),
      readFile(files.cert),
      readFile(authority.ca, 'utf8'),
    ])
    let named = ''
    const server = createServer({ key, cert }, ({ url }, response) => {
      const document = { issuer: named, jwks_uri: `${origin}/keys` }
      if (url === '/.well-known/openid-configuration') response.end(JSON.stringify(document))
      else if (url === '/keys') response.end(jwks)
      else response.writeHead(404).end()
    })
    await using owned = new AsyncDisposableStack()
    owned.defer(() => {
      server.closeAllConnections()
      server.close()
    })
    const origin = `https://127.0.0.1:${await listenOnLoopback(server)}`
    const token = await sign({ claims: { iss: origin } })
    const discovered = { issuer: origin, jwks: undefined, ca }
    named = 'https://evil.example'
    const lying = owned.use(provider(discovered))
    expect(await refusalIn(lying(bearer(token)))).toBe('UNAVAILABLE')
    named = origin
    const right = owned.use(provider(discovered))
    expect((await right(bearer(token)))?.name).toBe('corp:alice')
    const untrusting = owned.use(provider({ ...discovered, ca: undefined }))
    expect(await refusalIn(untrusting(bearer(token)))).toBe('UNAVAILABLE')
  })
})
