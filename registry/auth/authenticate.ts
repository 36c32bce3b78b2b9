import { TLSSocket } from 'node:tls'
import type { FastifyRequest } from 'fastify'
import { LRUCache } from 'lru-cache'
import type { Scope } from '../../core/auth-challenge.ts'
import { CodedError } from '../../core/errors.ts'
import type { AccessState } from './access-state.ts'
import {
  anonymous,
  certificateIdentity,
  parseAuthorization,
  secretName,
  tokenOf,
  type CertifiedPeer,
  type Credentials,
  type Identity,
} from './identity.ts'
import { addressName, createTokenBuckets, tooMany } from './limits.ts'
import { issuerOf } from './oidc.ts'
import { tokenService, type Tokens } from './tokens.ts'

/** What of a request says who sends it. */
export interface Sender {
  readonly authorization: string | undefined
  readonly address: string
  /** Undefined where the connection is not TLS. */
  readonly tls: CertifiedPeer | undefined
}

export function senderOf({ headers, raw }: FastifyRequest, { addresses }: AccessState): Sender {
  const { socket } = raw
  return {
    authorization: headers.authorization,
    address: addresses.of(socket.remoteAddress, [headers['x-forwarded-for']].flat().join()),
    tls: socket instanceof TLSSocket ? socket : undefined,
  }
}

/** Who sends a request; `scopes` where one of our tokens limits what it is for. */
export interface Caller {
  readonly identity: Identity
  readonly scopes: readonly Scope[] | undefined
}

/** Finds out who sends a request. */
export interface Authenticator {
  /**
   * Throws UNAUTHORIZED for credentials that nobody vouches for, TOOMANYREQUESTS after too many
   * of them, UNAVAILABLE where who would know does not answer.
   */
  identify(sender: Sender, state: AccessState): Promise<Caller>
  /** Like `identify`, by credentials that no token of ours stands for. */
  identifyBy(credentials: Credentials, sender: Sender, state: AccessState): Promise<Identity>
}

/** Wrong secrets of one address and name: ten at once, then one every six seconds. */
const failuresPerName = { perSecond: 1 / 6, burst: 10 }
/** Of one address with any names: a company may sit behind one. */
const failuresPerAddress = { perSecond: 2, burst: 100 }
/** A secret that was right is not held up by the wrong ones of its neighbours. */
const rememberedMs = 10 * 60_000
const mostRemembered = 20_000

export function createAuthenticator(tokens: Tokens): Authenticator {
  const perName = createTokenBuckets(failuresPerName)
  const perAddress = createTokenBuckets(failuresPerAddress)
  const right = new LRUCache<string, true>({ max: mostRemembered, ttl: rememberedMs })

  /** Counts the attempt as wrong before it is judged, so that many at once are counted too. */
  function spend(credentials: Credentials, address: string): () => void {
    const user = credentials.kind === 'basic' ? credentials.user : undefined
    const counts = [{ bucket: perAddress, name: address }]
    // Tokens cannot be guessed; those that have expired are shown by whole networks.
    if (user !== undefined) counts.push({ bucket: perName, name: secretName(address, user) })
    for (const { bucket, name } of counts) {
      const seconds = bucket.take(name)
      if (seconds > 0) throw tooMany('some wrong credentials per minute', seconds)
    }
    return () => {
      for (const { bucket, name } of counts) bucket.giveBack(name)
    }
  }

  async function ask(credentials: Credentials, state: AccessState): Promise<Identity> {
    // One of ours is no credential to get another one by, nor to show to anybody else.
    const isOurs = issuerOf(tokenOf(credentials) ?? '') === tokenService
    for (const provider of isOurs ? [] : state.providers) {
      const identity = await provider(credentials)
      if (!identity) continue
      if ((identity.expiresAt ?? Infinity) > Date.now()) return state.rules.withGroups(identity)
      throw new CodedError('UNAUTHORIZED', 'the credentials have expired')
    }
    throw new CodedError('UNAUTHORIZED', 'the credentials are not known here')
  }

  async function identifyBy(
    credentials: Credentials,
    { address, tls }: Sender,
    state: AccessState,
  ): Promise<Identity> {
    if (credentials.kind === 'none') return byCertificate(tls, state) ?? anonymous
    const name = secretName(...Object.values(credentials))
    const isKnown = right.has(name)
    const giveBack = isKnown ? () => {} : spend(credentials, addressName(address))
    try {
      const identity = await ask(credentials, state)
      right.set(name, true)
      giveBack()
      return identity
    } catch (error) {
      // Only what was judged and found wrong counts.
      const isWrong = error instanceof CodedError && error.code === 'UNAUTHORIZED'
      if (isWrong) right.delete(name)
      else giveBack()
      throw error
    }
  }

  return {
    identifyBy,
    async identify(sender, state) {
      const credentials = parseAuthorization(sender.authorization)
      if (credentials.kind === 'bearer' && issuerOf(credentials.token) === tokenService) {
        // Cannot be guessed, and runs out in the middle of things: failures do not count.
        return tokens.verify(credentials.token)
      }
      const identity = await identifyBy(credentials, sender, state)
      return { identity, scopes: undefined }
    },
  }
}

function byCertificate(tls: Sender['tls'], { file }: AccessState): Identity | undefined {
  const { certificates } = file.providers
  if (!certificates || !tls) return undefined
  const found = certificateIdentity(tls, certificates.name)
  // A connection may be older than its certificate allows.
  return found && (found.expiresAt ?? 0) > Date.now() ? found : undefined
}
