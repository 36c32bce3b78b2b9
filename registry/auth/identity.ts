import { createHash, createHmac, randomBytes } from 'node:crypto'
import type { PeerCertificate } from 'node:tls'
import { CodedError } from '../../core/errors.ts'

export const identityKinds = [
  'user',
  'robot',
  'serviceaccount',
  'certificate',
  'anonymous',
] as const

/** Who a caller is, as one provider says it. */
export interface Identity {
  readonly kind: (typeof identityKinds)[number]
  /** Unique within its kind. */
  readonly name: string
  /** Groups that the provider vouches for. */
  readonly groups: readonly string[]
  /** Milliseconds since the epoch; undefined: as long as the provider knows the caller. */
  readonly expiresAt?: number
}

export const anonymous: Identity = { kind: 'anonymous', name: 'anonymous', groups: [] }

/** `kind:name`, as rules and the audit log write it. */
export function callerOf({ kind, name }: Identity): string {
  return kind === 'anonymous' ? kind : `${kind}:${name}`
}

/** What a request shows of its caller. */
export type Credentials =
  | { readonly kind: 'none' }
  | { readonly kind: 'basic'; readonly user: string; readonly password: string }
  | { readonly kind: 'bearer'; readonly token: string }

/** Answers who shows `credentials`; undefined: not known here, another provider may know. */
export type Provider = (credentials: Credentials) => Promise<Identity | undefined>

/** Throws UNAUTHORIZED where the header is neither Basic nor Bearer. @see RFC 7617, RFC 6750 */
export function parseAuthorization(header: string | undefined): Credentials {
  if (header === undefined || header === '') return { kind: 'none' }
  const [, scheme = '', value = ''] = /^(\S+) +(\S+) *$/.exec(header) ?? []
  if (/^bearer$/i.test(scheme)) return { kind: 'bearer', token: value }
  if (/^basic$/i.test(scheme)) {
    const decoded = Buffer.from(value, 'base64').toString()
    const colon = decoded.indexOf(':')
    if (colon >= 0) {
      return {
        kind: 'basic',
        user: decoded.slice(0, colon),
        password: decoded.slice(colon + 1),
      }
    }
  }
  throw new CodedError('UNAUTHORIZED', 'the Authorization header is neither Basic nor Bearer')
}

/** The part of credentials that may be a token: a client that knows only Basic sends it there. */
export function tokenOf(credentials: Credentials): string | undefined {
  if (credentials.kind === 'bearer') return credentials.token
  return credentials.kind === 'basic' ? credentials.password : undefined
}

const cacheKey = randomBytes(32)

/** Names a secret in a cache: worth nothing outside this process. */
export function secretName(...parts: readonly string[]): string {
  const hash = createHmac('sha256', cacheKey)
  for (const part of parts) hash.update(`${part.length}:${part}`)
  return hash.digest('base64')
}

export function sha256Hex(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** Which field of a client certificate names its holder. */
export const certificateNames = ['cn', 'dns', 'uri', 'email'] as const

const alternatives = { dns: 'DNS', uri: 'URI', email: 'email' } as const

/** The server's end of a TLS connection. */
export interface CertifiedPeer {
  /** The client showed a certificate that we trust. */
  readonly authorized: boolean
  getPeerCertificate(): Pick<PeerCertificate, 'subject' | 'subjectaltname' | 'valid_to'>
}

/**
 * The holder of a client certificate that the TLS server has verified; undefined where there is
 * none, or where it has no such field or an ambiguous one.
 */
export function certificateIdentity(
  socket: CertifiedPeer,
  field: (typeof certificateNames)[number],
): Identity | undefined {
  if (!socket.authorized) return undefined
  const { subject, subjectaltname = '', valid_to: validTo } = socket.getPeerCertificate()
  const name = field === 'cn' ? subject?.CN : alternative(subjectaltname, alternatives[field])
  if (typeof name !== 'string' || name === '') return undefined
  return { kind: 'certificate', name, groups: [], expiresAt: Date.parse(validTo) }
}

/** The only alternative name of that type. Node quotes what could be taken for a separator. */
function alternative(names: string, type: string): string | undefined {
  if (names.includes('"')) return undefined
  const found = names.split(', ').filter((name) => name.startsWith(`${type}:`))
  return found.length === 1 ? found[0]?.slice(type.length + 1) : undefined
}
