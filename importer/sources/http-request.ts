import { isIP } from 'node:net'
import { request, type Dispatcher } from 'undici'
import type { Connections } from '../../core/connections.ts'
import { CodedError } from '../../core/errors.ts'
import { connectionError, httpStatusError } from './http-errors.ts'

const mostRedirects = 10

/**
 * Returns the URL; throws SOURCE_INVALID unless `text` is an absolute http or https URL. An address
 * in it must be written the usual way: nobody sees that 0x7f.1 is this machine.
 */
export function parseHttpUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new CodedError(
      'SOURCE_INVALID',
      `not a source: ${JSON.stringify(withoutSecrets(text))}; expected http://, https://, docker://, s3:// or image:`,
    )
  }
  const { hostname } = url
  const written = /^https?:\/\/(?:[^/?#@]*@)?(\[[^\]]*\]|[^/?#:]*)/i.exec(text)?.[1]
  if (isIP(hostname.replace(/^\[|\]$/g, '')) !== 0 && written?.toLowerCase() !== hostname) {
    throw new CodedError('SOURCE_INVALID', `write the address of the source as ${hostname}`)
  }
  return url
}

/** The beginning of an address that is none, without what could be user info or a signature. */
export function withoutSecrets(text: string): string {
  return text
    .replace(/^([^@]*?\/\/)?[^@]*@/s, '$1')
    .replace(/[?#].*$/s, '')
    .slice(0, 200)
}

/** The URL as records and logs may show it: scheme, host and path. */
export function describeUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`
}

/** Where to ask, and what proves there who we are. */
export interface Start {
  readonly url: URL
  /** For the origin of `url`; empty: nothing does. */
  readonly credentials: Readonly<Record<string, string>>
}

/** An answer with bytes of the content. */
export interface Opened {
  readonly response: Dispatcher.ResponseData
  /** Where the redirects ended, with the credentials that were left there. */
  readonly at: Start
}

/** How requests of one source are made. */
export interface Way {
  readonly connections: Connections
  readonly signal: AbortSignal
}

/**
 * GETs `start` and what it redirects to. Answers 200, 206 where `headers` ask for a range, and what is
 * in `accept`. Throws
 * SOURCE_NOT_FOUND, SOURCE_DENIED, SOURCE_FORBIDDEN, SOURCE_TLS_INVALID, SOURCE_UNAVAILABLE and
 * SOURCE_INVALID.
 */
export async function follow(
  start: Start,
  headers: Readonly<Record<string, string>>,
  { connections, signal }: Way,
  accept: readonly number[] = [],
): Promise<Opened> {
  let { url, credentials } = start
  for (let hop = 0; hop <= mostRedirects; hop++) {
    const response = await request(withoutUserInfo(url), {
      ...connections.to(url),
      signal,
      // The image is what is stored: a server must not wrap it for the way.
      headers: { 'user-agent': 'dvcr', ...credentials, 'accept-encoding': 'identity', ...headers },
    }).catch((error: unknown) => {
      signal.throwIfAborted()
      throw connectionError(error, describeUrl(url) + connections.via(url))
    })
    const location = response.headers['location']
    if (response.statusCode >= 300 && response.statusCode < 400 && location !== undefined) {
      discard(response)
      const next = parseRedirect(String(location), url)
      if (url.protocol === 'https:' && next.protocol === 'http:') {
        throw new CodedError(
          'SOURCE_INVALID',
          `${describeUrl(url)} redirects from https to ${describeUrl(next)}; refused`,
        )
      }
      // Whoever is asked from there on was named by somebody else.
      if (next.origin !== url.origin) credentials = {}
      url = next
      continue
    }
    const isRange = response.statusCode === 206 && 'range' in headers
    if (response.statusCode === 200 || isRange || accept.includes(response.statusCode)) {
      // Who reads it is told; who stops reading has made the error himself.
      response.body.on('error', () => {})
      return { response, at: { url, credentials } }
    }
    discard(response)
    throw httpStatusError(response.statusCode, describeUrl(url))
  }
  throw new CodedError(
    'SOURCE_INVALID',
    `${describeUrl(start.url)} redirects more than ${mostRedirects} times`,
  )
}

/** `location` may be relative; throws as `parseHttpUrl`. @see RFC 9110 §10.2.2 */
function parseRedirect(location: string, from: URL): URL {
  const isWhole = /^https?:/i.test(location)
  return parseHttpUrl(isWhole ? location : (URL.parse(location, from)?.href ?? location))
}

/** Drops a body unread; undici reports that as an error, which is what we asked for. */
export function discard({ body }: Dispatcher.ResponseData): void {
  body.on('error', () => {})
  body.destroy()
}

/** What pins the content for `If-Range`: a strong ETag, else Last-Modified. @see RFC 9110 §13.1.5 */
export function pinnedBy({ headers }: Dispatcher.ResponseData): string | undefined {
  const etag = headers['etag']
  if (typeof etag === 'string' && etag.startsWith('"')) return etag
  const modified = headers['last-modified']
  return typeof modified === 'string' ? modified : undefined
}

/** True where the answer names what pins it, and that is not `validator`. */
export function saysOtherThan(
  validator: string | undefined,
  { headers }: Dispatcher.ResponseData,
): boolean {
  const now = validator?.startsWith('"') ? headers['etag'] : headers['last-modified']
  return now !== undefined && now !== validator
}

export function contentLength({ headers }: Dispatcher.ResponseData): number | undefined {
  const text = headers['content-length']
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

function withoutUserInfo(url: URL): URL {
  const bare = new URL(url)
  bare.username = ''
  bare.password = ''
  return bare
}
