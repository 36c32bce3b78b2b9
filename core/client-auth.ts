import { z } from 'zod'
import { parseChallenges, parseScopes, formatScope } from './auth-challenge.ts'
import type { Login } from './docker-config.ts'
import { CodedError } from './errors.ts'

/** A request as far as it matters for who may send it. */
export interface Asked {
  readonly method: string
  /** Path without the query. */
  readonly path: string
}

/** Proves to one registry who we are. */
export interface ClientAuth {
  /**
   * The `Authorization` for a request; `undefined` as long as the registry did not ask for any,
   * except for our own image API, which gets it at once.
   * May fetch a token first, which then has at least half of its life left. Throws UNAUTHORIZED
   * or TARGET_UNAVAILABLE for the token service.
   */
  authorize(asked: Asked): Promise<string | undefined>
  /**
   * Learns from the refusal (401) of a request with the `Authorization` that was `sent` what the
   * registry wants; false where sending the request again would not change the answer.
   */
  learn(asked: Asked, challenges: string, sent: string | undefined): Promise<boolean>
}

export interface TokenRequest {
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  /** A form, sent by POST; without one it is a GET. */
  readonly form?: URLSearchParams
}

export interface ClientAuthDeps {
  readonly base: URL
  /**
   * Asked when the registry first wants to know, again for every token, and where the login is
   * refused: it may have been replaced since.
   */
  readonly findLogin: () => Promise<Login | undefined>
  /** Sends to the token service; resolves to status and body. */
  readonly fetchToken: (
    request: TokenRequest,
  ) => Promise<{ readonly status: number; readonly body: unknown }>
}

type Scheme =
  | { readonly kind: 'basic' }
  | { readonly kind: 'bearer'; readonly realm: URL; readonly service: string | undefined }

interface Token {
  readonly value: string
  /** On the clock of `performance.now()`. */
  readonly freshUntilMs: number
}

/** What the token service is assumed to mean where it does not say. @see docker token spec */
const defaultLifetimeSeconds = 60

const tokenAnswer = z
  .looseObject({
    token: z.string().optional(),
    access_token: z.string().optional(),
    expires_in: z.number().positive().catch(defaultLifetimeSeconds),
  })
  .transform(({ token, access_token: accessToken, expires_in: seconds }) => ({
    value: token ?? accessToken ?? '',
    seconds,
  }))

/** Basic, and the Bearer tokens of docker's token service. @see docker registry token spec */
export function createClientAuth({ base, findLogin, fetchToken }: ClientAuthDeps): ClientAuth {
  let scheme: Scheme | undefined
  let login: Promise<Login | undefined> | undefined
  /** Nobody asked yet: a login that cannot be had is no reason to fail. */
  let unasked = true
  /** By what we ask for; the refused scopes are asked for beside it from then on. */
  const tokens = new Map<string, Promise<Token>>()
  const extraScopes = new Map<string, Set<string>>()

  function ourLogin(): Promise<Login | undefined> {
    login ??= findLogin()
    return login
  }

  function loginNow(): Promise<Login | undefined> {
    login = undefined
    return ourLogin()
  }

  async function basic(): Promise<string | undefined> {
    const found = await ourLogin()
    return found?.kind === 'password' ? basicOf(found) : undefined
  }

  async function bearer(asked: Asked): Promise<string> {
    const key = scopeOf(asked)
    const known = tokens.get(key)
    const token = await known?.catch(() => undefined)
    if (token && performance.now() < token.freshUntilMs) return `Bearer ${token.value}`
    // Requests at the same time share one token.
    let next = tokens.get(key)
    if (next === undefined || next === known) {
      next = obtain([key, ...(extraScopes.get(key) ?? [])])
      tokens.set(key, next)
    }
    return `Bearer ${(await next).value}`
  }

  async function obtain(scopes: string[]): Promise<Token> {
    if (scheme?.kind !== 'bearer') throw new CodedError('UNKNOWN', 'no token service is known')
    const { realm, service } = scheme
    const found = await loginNow()
    const query = new URLSearchParams()
    if (service !== undefined) query.set('service', service)
    const wanted = scopes.filter((scope) => scope !== '')
    const startedMs = performance.now()
    let request: TokenRequest
    if (found?.kind === 'identity') {
      query.set('grant_type', 'refresh_token')
      query.set('refresh_token', found.token)
      query.set('client_id', 'dvcr')
      query.set('scope', wanted.join(' '))
      request = { url: realm, headers: {}, form: query }
    } else {
      for (const scope of wanted) query.append('scope', scope)
      const url = new URL(realm)
      for (const [name, value] of query) url.searchParams.append(name, value)
      const headers = found ? { authorization: basicOf(found) } : {}
      request = { url, headers }
    }
    const { status, body } = await fetchToken(request)
    const answer = tokenAnswer.safeParse(body)
    if (status !== 200 || !answer.success || answer.data.value === '') {
      throw refusedBy(status, realm, base, found)
    }
    const { value, seconds } = answer.data
    return { value, freshUntilMs: startedMs + (seconds * 1000) / 2 }
  }

  return {
    async authorize(asked) {
      // It shows everybody what they may see: whoever has a login says so unasked.
      if (isImageApi(asked)) return unasked ? basic().catch(() => undefined) : basic()
      if (!scheme) return undefined
      return scheme.kind === 'basic' ? basic() : bearer(asked)
    },
    async learn(asked, header, sent) {
      if (isImageApi(asked)) {
        const first = unasked
        unasked = false
        return first
      }
      const found = parseChallenges(header)
      const wanted = found.find(({ scheme }) => scheme === 'bearer')
      const before = scheme
      if (!wanted) {
        if (!found.some((one) => one.scheme === 'basic')) return false
        scheme = { kind: 'basic' }
        if (before?.kind !== 'basic') return true
        await loginNow()
        return (await basic()) !== sent
      }
      const realm = realmOf(wanted.parameters['realm'], base)
      if (!realm) return false
      scheme = { kind: 'bearer', realm, service: wanted.parameters['service'] }
      const key = scopeOf(asked)
      tokens.delete(key)
      const extra = extraScopes.get(key) ?? new Set()
      for (const scope of parseScopes(wanted.parameters['scope'] ?? '')) {
        const written = formatScope(scope)
        if (written !== key) extra.add(written)
      }
      extraScopes.set(key, extra)
      return true
    },
  }
}

/** Our own API, which no other registry has. */
const isImageApi = ({ path }: Asked): boolean => path.startsWith('/v1/')

function basicOf(login: Extract<Login, { kind: 'password' }>): string {
  return `Basic ${Buffer.from(`${login.user}:${login.password}`).toString('base64')}`
}

/** The scope that covers a request, in the order that the peers write the actions. */
function scopeOf({ method, path }: Asked): string {
  if (path === '/v2/_catalog') return 'registry:catalog:*'
  const name = /^\/v2\/(.+)\/(?:blobs|manifests|tags|referrers)\//.exec(path)?.[1]
  if (name === undefined) return ''
  if (method === 'GET' || method === 'HEAD') return `repository:${name}:pull`
  return `repository:${name}:pull,push${method === 'DELETE' ? ',delete' : ''}`
}

/** A secret never goes out in the clear because a registry behind TLS said so. */
function realmOf(text: string | undefined, base: URL): URL | undefined {
  if (text === undefined || !URL.canParse(text, base)) return undefined
  const realm = new URL(text, base)
  if (realm.protocol === 'https:') return realm
  return realm.protocol === 'http:' && base.protocol === 'http:' ? realm : undefined
}

function refusedBy(status: number, realm: URL, base: URL, login: Login | undefined): CodedError {
  const where = `the token service ${realm.origin}${realm.pathname}`
  if (status === 401 || status === 403) {
    const who = login ? 'the login for' : 'anonymous access to'
    return new CodedError(
      'UNAUTHORIZED',
      `${where} refused ${who} ${base.host}; log in with: dvcr login ${base.host}`,
    )
  }
  if (status === 429) {
    return new CodedError('TOOMANYREQUESTS', `${where} answered 429; try again later`)
  }
  return new CodedError('TARGET_UNAVAILABLE', `${where} answered ${status} without a token`)
}
