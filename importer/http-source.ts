import { isIP } from 'node:net'
import { Agent, request, type Dispatcher } from 'undici'
import { CodedError } from '../core/errors.ts'
import { pause, retried } from '../core/retry.ts'
import type { AddressPolicy } from './address-policy.ts'
import { connectionError, httpStatusError } from './http-errors.ts'
import type { Source } from './source.ts'

export interface HttpSourceOptions {
  readonly signal: AbortSignal
  /** Waits before the next try, ms; one more try than entries. Reset by every byte that arrives. */
  readonly retryDelaysMs: readonly number[]
  /** Where connections may go, each of a redirect too; without one, anywhere. */
  readonly policy?: AddressPolicy
}

/** Of `dvcr`: seven and a half seconds in all, then the source counts as gone. */
export const sourceRetryDelaysMs: readonly number[] = [500, 2000, 5000]

const mostRedirects = 10
/** Nothing arriving for this long is a broken connection. */
const idleMs = 60_000

/**
 * Returns the URL; throws SOURCE_INVALID unless `text` is an absolute http or https URL. An address
 * in it must be written the usual way: nobody sees that 0x7f.1 is this machine.
 */
export function parseHttpUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new CodedError(
      'SOURCE_INVALID',
      `not a source: ${JSON.stringify(text.slice(0, 200))}; expected an http:// or https:// URL`,
    )
  }
  const { hostname } = url
  const written = /^https?:\/\/(?:[^/?#@]*@)?(\[[^\]]*\]|[^/?#:]*)/i.exec(text)?.[1]
  if (isIP(hostname.replace(/^\[|\]$/g, '')) !== 0 && written?.toLowerCase() !== hostname) {
    throw new CodedError('SOURCE_INVALID', `write the address of the source as ${hostname}`)
  }
  return url
}

/** The URL as records and logs may show it: scheme, host and path. */
export function describeUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`
}

interface Opened {
  readonly response: Dispatcher.ResponseData
  /** Where the redirects ended. */
  readonly url: URL
}

/**
 * An image on a web server. Redirects are followed (at most 10, never from https to http; user
 * info is not sent to another origin). A connection that breaks is continued by range where the
 * server pins the content by a strong ETag or Last-Modified; SOURCE_CHANGED where it then serves
 * other content. Throws SOURCE_NOT_FOUND, SOURCE_DENIED, SOURCE_FORBIDDEN, SOURCE_TLS_INVALID,
 * SOURCE_UNAVAILABLE.
 */
export async function openHttpSource(text: string, options: HttpSourceOptions): Promise<Source> {
  const { policy, signal } = options
  const first = parseHttpUrl(text)
  const label = describeUrl(first)
  const agent = new Agent({
    connect: { timeout: 15_000, ...(policy && { lookup: policy.lookup }) },
    headersTimeout: idleMs,
    bodyTimeout: idleMs,
  })
  const way = { agent, policy, signal }
  const retrying = {
    delaysMs: options.retryDelaysMs,
    signal,
    shouldRetry: (error: unknown) => error instanceof CodedError && error.retryable,
  }
  let opened: Opened
  try {
    opened = await retried(() => follow(first, {}, way), retrying)
  } catch (error) {
    await agent.destroy()
    throw error
  }
  const length = contentLength(opened.response)
  const validator = pinnedBy(opened.response)

  async function* body(): AsyncGenerator<Uint8Array, void> {
    let { response } = opened
    let received = 0
    let failures = 0
    for (;;) {
      try {
        for await (const chunk of response.body) {
          const bytes: Uint8Array = chunk
          received += bytes.length
          failures = 0
          yield bytes
        }
        if (length === undefined || received === length) return
        throw new CodedError(
          'SOURCE_TRUNCATED',
          `${label} ended after ${received} of ${length} bytes; the download is incomplete`,
        )
      } catch (error) {
        signal.throwIfAborted()
        const failure = bodyError(error, label, received, length)
        const delayMs = options.retryDelaysMs[failures++]
        if (validator === undefined || delayMs === undefined || length === undefined) throw failure
        await pause(delayMs, signal)
        response = await retried(() => resume(received, failure), retrying)
      }
    }
  }

  async function resume(from: number, failure: CodedError): Promise<Dispatcher.ResponseData> {
    const headers = { range: `bytes=${from}-`, 'if-range': validator ?? '' }
    const { response } = await follow(opened.url, headers, way)
    const range = String(response.headers['content-range'] ?? '')
    // Not every server with ranges looks at If-Range.
    const isOther = saysOtherThan(validator, response)
    if (response.statusCode === 206 && !isOther && range.startsWith(`bytes ${from}-`)) {
      return response
    }
    discard(response)
    // 200 is the whole content again: it changed, or the server does not do ranges after all.
    if (pinnedBy(response) === validator) throw failure
    throw new CodedError(
      'SOURCE_CHANGED',
      `${label} changed while it was downloaded (at byte ${from}); import it again`,
    )
  }

  return { label, length, body: body(), [Symbol.asyncDispose]: () => agent.destroy() }
}

interface Way {
  readonly agent: Agent
  readonly policy: AddressPolicy | undefined
  readonly signal: AbortSignal
}

async function follow(
  start: URL,
  headers: Record<string, string>,
  { agent, policy, signal }: Way,
): Promise<Opened> {
  let url = start
  let credentials = basicAuth(start)
  for (let hop = 0; hop <= mostRedirects; hop++) {
    // Names are checked as they are resolved.
    policy?.requireHost(url.hostname)
    const response = await request(withoutUserInfo(url), {
      dispatcher: agent,
      signal,
      // The image is what is stored: a server must not wrap it for the way.
      headers: { 'accept-encoding': 'identity', 'user-agent': 'dvcr', ...credentials, ...headers },
    }).catch((error: unknown) => {
      signal.throwIfAborted()
      throw connectionError(error, describeUrl(url))
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
      if (next.origin !== url.origin) credentials = {}
      url = next
      continue
    }
    const isRange = response.statusCode === 206 && 'range' in headers
    if (response.statusCode === 200 || isRange) return { response, url }
    discard(response)
    throw httpStatusError(response.statusCode, describeUrl(url))
  }
  throw new CodedError(
    'SOURCE_INVALID',
    `${describeUrl(start)} redirects more than ${mostRedirects} times`,
  )
}

/** `location` may be relative; throws as `parseHttpUrl`. @see RFC 9110 §10.2.2 */
function parseRedirect(location: string, from: URL): URL {
  const isWhole = /^https?:/i.test(location)
  return parseHttpUrl(isWhole ? location : (URL.parse(location, from)?.href ?? location))
}

/** Drops a body unread; undici reports that as an error, which is what we asked for. */
function discard({ body }: Dispatcher.ResponseData): void {
  body.on('error', () => {})
  body.destroy()
}

function bodyError(
  error: unknown,
  label: string,
  received: number,
  length: number | undefined,
): CodedError {
  if (error instanceof CodedError) return error
  const of = length === undefined ? '' : ` of ${length}`
  return new CodedError(
    'SOURCE_TRUNCATED',
    `the connection to ${label} broke after ${received}${of} bytes: ${connectionError(error, label).message}`,
    { cause: error },
  )
}

/** What pins the content for `If-Range`: a strong ETag, else Last-Modified. @see RFC 9110 §13.1.5 */
function pinnedBy({ headers }: Dispatcher.ResponseData): string | undefined {
  const etag = headers['etag']
  if (typeof etag === 'string' && etag.startsWith('"')) return etag
  const modified = headers['last-modified']
  return typeof modified === 'string' ? modified : undefined
}

/** True where the answer names what pins it, and that is not `validator`. */
function saysOtherThan(
  validator: string | undefined,
  { headers }: Dispatcher.ResponseData,
): boolean {
  const now = validator?.startsWith('"') ? headers['etag'] : headers['last-modified']
  return now !== undefined && now !== validator
}

function contentLength({ headers }: Dispatcher.ResponseData): number | undefined {
  const text = headers['content-length']
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

function basicAuth(url: URL): Record<string, string> {
  if (url.username === '' && url.password === '') return {}
  let pair: string
  try {
    pair = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`
  } catch (error) {
    throw new CodedError(
      'SOURCE_INVALID',
      `cannot send the user info of ${describeUrl(url)}: write % in it as %25`,
      { cause: error },
    )
  }
  return { authorization: `Basic ${Buffer.from(pair).toString('base64')}` }
}

function withoutUserInfo(url: URL): URL {
  const bare = new URL(url)
  bare.username = ''
  bare.password = ''
  return bare
}
