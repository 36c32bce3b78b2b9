import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  decodeJwt,
  errors,
  jwtVerify,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
} from 'jose'
import { LRUCache } from 'lru-cache'
import { Agent, fetch, type Dispatcher } from 'undici'
import { z } from 'zod'
import { CodedError } from '../../core/errors.ts'
import { secretName, tokenOf, type Identity, type Provider } from './identity.ts'

/** Only signatures that the issuer alone can make: never `none`, never a shared secret. */
export const jwtAlgorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const

export interface OidcOptions {
  readonly issuer: string
  readonly audience: string
  /** Where its keys are; undefined: as the issuer's discovery document says. */
  readonly jwks: { readonly url: string } | { readonly keys: JSONWebKeySet } | undefined
  /** Certificates (PEM) to trust for the issuer in place of the system's. */
  readonly ca: string | undefined
  readonly algorithms: readonly string[]
  readonly clockSkewSeconds: number
  /** Claims, at any depth: `realm_access.roles`. */
  readonly nameClaim: string
  readonly groupsClaim: string
  /** Put before every name and group, so that an issuer cannot name another one's users. */
  readonly prefix: string
}

const rememberedMs = 60_000
const mostRemembered = 10_000
/** The server's limit of headers is not much more. */
const longestToken = 30_000
const keysMs = 10 * 60_000
const cooldownMs = 30_000
const timeoutMs = 5000

const discoverySchema = z.looseObject({ issuer: z.string(), jwks_uri: z.url() })

/**
 * Tokens (JWT) of one OpenID issuer, as Bearer or as the password of any name. Throws UNAUTHORIZED
 * for a token of this issuer that does not hold, UNAVAILABLE where its keys cannot be had.
 */
export function createOidcProvider(options: OidcOptions): Provider & AsyncDisposable {
  const agent = new Agent(options.ca === undefined ? {} : { connect: { ca: options.ca } })
  const remembered = new LRUCache<string, Identity>({ max: mostRemembered, ttl: rememberedMs })
  const keys = keysOf(options, agent)

  async function identify(token: string): Promise<Identity> {
    const { issuer, audience, algorithms, clockSkewSeconds: clockTolerance } = options
    const { payload } = await jwtVerify(token, keys, {
      issuer,
      audience,
      algorithms: [...algorithms],
      clockTolerance,
      requiredClaims: ['exp'],
    }).catch((error: unknown) => {
      throw refusal(error, issuer)
    })
    return identityOf(payload, options)
  }

  const provider: Provider = async (credentials) => {
    const token = tokenOf(credentials)
    if (token === undefined || issuerOf(token) !== options.issuer) return undefined
    const key = secretName(token)
    const known = remembered.get(key)
    if (known && (known.expiresAt ?? 0) > Date.now()) return known
    const identity = await identify(token)
    remembered.set(key, identity)
    return identity
  }
  return Object.assign(provider, { [Symbol.asyncDispose]: () => agent.close() })
}

/** The issuer that a token claims, unproven; undefined where it is no JWT. */
export function issuerOf(token: string): string | undefined {
  if (token.length > longestToken || !/^[\w-]+\.[\w-]+\.[\w-]*$/.test(token)) return undefined
  try {
    return decodeJwt(token).iss
  } catch {
    // Three words with dots between are not yet a JWT.
    return undefined
  }
}

/** Keys that a missing `kid` makes us look up again, at most once in `cooldownMs`. */
function keysOf({ issuer, jwks }: OidcOptions, agent: Dispatcher): JWTVerifyGetKey {
  if (jwks && 'keys' in jwks) return createLocalJWKSet(jwks.keys)
  let failedMs = -Infinity
  /** One that does not answer is not asked again for every token that comes. */
  const load = async (url: string, signal: AbortSignal): Promise<Response> => {
    if (performance.now() - failedMs < timeoutMs) throw new Error('it failed a moment ago')
    try {
      const response = await fetch(url, { dispatcher: agent, redirect: 'manual', signal })
      if (response.status !== 200) throw new Error(`${url} answered ${response.status}`)
      const body = await response.arrayBuffer()
      return new Response(body, { headers: { 'content-type': 'application/json' } })
    } catch (error) {
      failedMs = performance.now()
      throw error
    }
  }
  const remote = (url: string): JWTVerifyGetKey =>
    createRemoteJWKSet(new URL(url), {
      timeoutDuration: timeoutMs,
      cooldownDuration: cooldownMs,
      cacheMaxAge: keysMs,
      [customFetch]: (from, { signal }) => load(from, signal),
    })
  if (jwks) return remote(jwks.url)
  let found: Promise<JWTVerifyGetKey> | undefined
  const discover = async (): Promise<JWTVerifyGetKey> => {
    const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
    const answer = await load(url, AbortSignal.timeout(timeoutMs))
    const document = discoverySchema.parse(await answer.json())
    if (document.issuer !== issuer) throw new Error(`${url} is of another issuer`)
    assertSafeUrl(document.jwks_uri)
    return remote(document.jwks_uri)
  }
  return async (header, token) => {
    found ??= discover().catch((error: unknown) => {
      found = undefined
      throw error
    })
    return (await found)(header, token)
  }
}

const jwksSchema = z.looseObject({
  // No `oct`: a shared secret.
  keys: z.array(z.looseObject({ kty: z.enum(['RSA', 'EC', 'OKP']) })).min(1),
})

/** Public keys of a file. Throws SETTING_INVALID without quoting it. */
export function parseJwks(text: string, path: string): JSONWebKeySet {
  try {
    return jwksSchema.parse(JSON.parse(text))
  } catch {
    throw new CodedError('SETTING_INVALID', `${path}: not a JWKS of public keys (RFC 7517)`)
  }
}

/** Keys come over TLS, or from this machine. Throws SETTING_INVALID. */
export function assertSafeUrl(text: string): void {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'https:') return
  if (url?.protocol === 'http:' && /^(?:localhost|127\.[\d.]+|\[::1\])$/.test(url.hostname)) return
  throw new CodedError('SETTING_INVALID', `not an https address: ${text.slice(0, 200)}`)
}

/** A fault of the token is the caller's, anything else ours; the token itself is never repeated. */
function refusal(error: unknown, issuer: string): CodedError {
  const isTokensFault =
    error instanceof errors.JOSEError &&
    !(error instanceof errors.JWKSTimeout) &&
    !(error instanceof errors.JWKSInvalid) &&
    error.code !== 'ERR_JOSE_GENERIC'
  if (isTokensFault) {
    return new CodedError('UNAUTHORIZED', `the token of ${issuer} is refused: ${error.message}`)
  }
  const reason = error instanceof Error ? error.message : 'unknown'
  return new CodedError(
    'UNAVAILABLE',
    `the keys of the issuer ${issuer} cannot be had now: ${reason}`,
    { cause: error },
  )
}

function identityOf(payload: JWTPayload, options: OidcOptions): Identity {
  const { nameClaim, groupsClaim, prefix, issuer } = options
  const name = claim(payload, nameClaim)
  if (typeof name !== 'string' || name === '') {
    throw new CodedError('UNAUTHORIZED', `the token of ${issuer} has no claim ${nameClaim}`)
  }
  // Some issuers let anyone claim an address that is not theirs.
  const { email_verified: isVerified = true } = payload
  if (nameClaim === 'email' && isVerified !== true && isVerified !== 'true') {
    throw new CodedError('UNAUTHORIZED', `the address in the token of ${issuer} is not verified`)
  }
  const groups = [claim(payload, groupsClaim) ?? []].flat().filter((one) => typeof one === 'string')
  return {
    kind: 'user',
    name: prefix + name,
    groups: groups.map((group) => prefix + group),
    expiresAt: (payload.exp ?? 0) * 1000,
  }
}

/** A claim by its name, else by its path: some names have dots in them. */
function claim(payload: JWTPayload, path: string): unknown {
  if (Object.hasOwn(payload, path)) return payload[path]
  return path.split('.').reduce<unknown>((value, key) => {
    const isRecord = typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    return isRecord ? Reflect.get(value, key) : undefined
  }, payload)
}
