import { randomUUID } from 'node:crypto'
import { decodeProtectedHeader, errors, jwtVerify, SignJWT } from 'jose'
import { LRUCache } from 'lru-cache'
import { z } from 'zod'
import type { Scope } from '../../core/auth-challenge.ts'
import { CodedError } from '../../core/errors.ts'
import { identityKinds, secretName, type Identity } from './identity.ts'
import type { TokenKeys } from './token-keys.ts'

/** `iss` and `aud` of our tokens, and the `service` of our challenges. */
export const tokenService = 'dvcr'

const clockSkewSeconds = 30
/** Letters of the tokens that are remembered; one may be as long as a header. */
const mostRemembered = 64 * 1024 * 1024

/** What one of our tokens says: who, and what of their rights it is limited to. */
export interface TokenClaims {
  readonly identity: Identity
  readonly scopes: readonly Scope[]
}

export interface IssuedToken {
  readonly token: string
  readonly seconds: number
  readonly issuedAt: Date
}

const claimsSchema = z.object({
  kind: z.enum(identityKinds),
  sub: z.string(),
  groups: z.array(z.string()).default([]),
  access: z.array(z.object({ type: z.string(), name: z.string(), actions: z.array(z.string()) })),
  exp: z.number(),
})

/** Short tokens in the form that docker's specification gives them. @see docker token spec, JWT */
export interface Tokens {
  /** Never outlives the credentials it stands for. */
  issue(claims: TokenClaims): Promise<IssuedToken>
  /** Throws UNAUTHORIZED where the token is not one of ours, or not any more. */
  verify(token: string): Promise<TokenClaims>
}

export function createTokens({
  keys,
  seconds: lifetime,
}: {
  readonly keys: TokenKeys
  /** How long a token issued now is good for. */
  readonly seconds: () => number
}): Tokens {
  // A client sends the same token with every request of a transfer.
  const verified = new LRUCache<string, TokenClaims>({ maxSize: mostRemembered })

  async function open(token: string): Promise<TokenClaims> {
    const { kid = '' } = decodeProtectedHeader(token)
    const key = await keys.find(kid)
    if (!key) throw new errors.JWKSNoMatchingKey()
    const { payload } = await jwtVerify(token, key.secret, {
      issuer: tokenService,
      audience: tokenService,
      algorithms: ['HS256'],
      clockTolerance: clockSkewSeconds,
      requiredClaims: ['exp', 'sub'],
    })
    const { kind, sub: name, groups, access, exp } = claimsSchema.parse(payload)
    const expiresAt = (exp + clockSkewSeconds) * 1000
    return { identity: { kind, name, groups, expiresAt }, scopes: access }
  }

  return {
    async issue({ identity, scopes }) {
      const { id, secret } = await keys.current()
      const issuedAt = new Date()
      const issued = Math.floor(issuedAt.getTime() / 1000)
      const until = Math.floor((identity.expiresAt ?? Infinity) / 1000)
      const seconds = Math.max(1, Math.min(lifetime(), until - issued))
      const token = await new SignJWT({
        kind: identity.kind,
        groups: [...identity.groups],
        access: scopes.map(({ type, name, actions }) => ({ type, name, actions: [...actions] })),
      })
        .setProtectedHeader({ alg: 'HS256', typ: 'JWT', kid: id })
        .setIssuer(tokenService)
        .setAudience(tokenService)
        .setSubject(identity.name)
        .setIssuedAt(issued)
        .setNotBefore(issued)
        .setExpirationTime(issued + seconds)
        .setJti(randomUUID())
        .sign(secret)
      return { token, seconds, issuedAt }
    },
    async verify(token) {
      const name = secretName(token)
      const known = verified.get(name)
      if (known) {
        if ((known.identity.expiresAt ?? 0) > Date.now()) return known
        verified.delete(name)
      }
      const claims = await open(token).catch((error: unknown) => {
        if (!(error instanceof errors.JOSEError) && !(error instanceof TypeError)) throw error
        throw new CodedError('UNAUTHORIZED', `the token is refused: ${error.message}`)
      })
      verified.set(name, claims, { size: token.length })
      return claims
    },
  }
}
