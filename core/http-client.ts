import { Readable } from 'node:stream'
import { request, type Dispatcher } from 'undici'
import { createClientAuth, type TokenRequest } from './client-auth.ts'
import { createConnections, type ConnectionOptions } from './connections.ts'
import type { Login } from './docker-config.ts'
import type { ErrorCode } from './error-codes.ts'
import { CodedError, reportedError } from './errors.ts'

const mostErrorBytes = 64 * 1024

export interface SendOptions {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>
  readonly signal?: AbortSignal | undefined
  /** Statuses that are answers, not failures. */
  readonly accept: readonly number[]
}

type Asked = Omit<SendOptions, 'accept'>

/** HTTP to one registry server. The caller consumes or dumps every body. */
export interface HttpClient extends AsyncDisposable {
  readonly base: URL
  /** `path` is relative to the base, or an absolute URL of the same origin. */
  send(path: string, options: SendOptions): Promise<Dispatcher.ResponseData>
}

/** Where connections may go and through what: to services for tokens and by redirects too. */
export interface HttpClientOptions extends Pick<ConnectionOptions, 'tls' | 'policy' | 'proxies'> {
  /** Who we are; asked when the registry wants to know, again where it is refused. Nobody unless given. */
  readonly findLogin?: (() => Promise<Login | undefined>) | undefined
}

const mostRedirects = 5

/** Logs in nowhere. */
const noLogin = (): Promise<undefined> => Promise.resolve(undefined)
const tokenTimeoutMs = 30_000

/**
 * Throws TARGET_UNAVAILABLE where the server cannot be reached, and for an answer that is not
 * accepted the code in its body, so that an error reads the same here as there. Where the server
 * asks who we are, `findLogin` says it; a request whose body is a stream is never sent twice.
 * Redirects of GET and HEAD are followed; another host is not told who we are.
 */
export function createHttpClient(
  base: URL,
  { findLogin = noLogin, ...options }: HttpClientOptions = {},
): HttpClient {
  const limits = { headersTimeoutMs: 0, bodyTimeoutMs: 120_000 }
  const connections = createConnections({ ...options, ...limits })
  const auth = createClientAuth({ base, findLogin, fetchToken })

  async function exchange(
    url: URL,
    { method, headers = {}, body, signal }: Asked,
  ): Promise<Dispatcher.ResponseData> {
    const way = connections.to(url)
    try {
      return await request(url, {
        ...way,
        method,
        headers: { 'user-agent': 'dvcr', ...headers },
        ...(body === undefined ? {} : { body: sendable(body) }),
        ...(signal === undefined ? {} : { signal }),
      })
    } catch (error) {
      signal?.throwIfAborted()
      if (error instanceof CodedError) throw error
      throw new CodedError(
        'TARGET_UNAVAILABLE',
        `cannot reach ${url.origin}${connections.via(url)}: ${error instanceof Error ? error.message : String(error)}; is 'dvcr serve' running there?`,
        { cause: error },
      )
    }
  }

  async function fetchToken({ url, headers, form }: TokenRequest) {
    const type = { 'content-type': 'application/x-www-form-urlencoded' }
    const response = await exchange(url, {
      method: form ? 'POST' : 'GET',
      headers: form ? { ...headers, ...type } : headers,
      signal: AbortSignal.timeout(tokenTimeoutMs),
      ...(form ? { body: Buffer.from(form.toString()) } : {}),
    })
    return { status: response.statusCode, body: parsed(await startOf(response.body)) }
  }

  /** To our registry, with what proves who we are. */
  async function authorized(url: URL, asked: Asked): Promise<Dispatcher.ResponseData> {
    const { method, body } = asked
    const what = { method, path: url.pathname }
    let authorization: string | undefined
    const attempt = async (): Promise<Dispatcher.ResponseData> => {
      authorization = await auth.authorize(what)
      const headers = { ...asked.headers, ...(authorization ? { authorization } : {}) }
      return exchange(url, { ...asked, headers })
    }
    const response = await attempt()
    if (response.statusCode !== 401) return response
    const wanted = response.headers['www-authenticate']
    const learnt = await auth.learn(what, [wanted ?? []].flat().join(', '), authorization)
    if (!learnt || (body !== undefined && !(body instanceof Uint8Array))) return response
    await response.body.dump()
    return attempt()
  }

  return {
    base,
    async send(path, { accept, ...asked }) {
      let url = new URL(path, base)
      if (url.origin !== base.origin) {
        throw new CodedError(
          'TARGET_UNAVAILABLE',
          `${base.host} sent us to another host: ${url.host}`,
        )
      }
      let response = await authorized(url, asked)
      for (let left = mostRedirects; !accept.includes(response.statusCode); left--) {
        const next = redirectOf(response, asked, url)
        if (!next || left === 0) {
          throw await failure(response, `${asked.method} ${url.pathname} on ${url.host}`)
        }
        await response.body.dump()
        url = next
        const isOurs = url.origin === base.origin
        response = isOurs ? await authorized(url, asked) : await exchange(url, asked)
      }
      return response
    },
    [Symbol.asyncDispose]: () => connections[Symbol.asyncDispose](),
  }
}

/** Where to ask instead; never from TLS to plain HTTP. @see OCI distribution-spec §redirects */
function redirectOf(
  { statusCode, headers }: Dispatcher.ResponseData,
  { method }: Asked,
  from: URL,
): URL | undefined {
  const { location } = headers
  if (![301, 302, 303, 307, 308].includes(statusCode) || typeof location !== 'string') return
  if ((method !== 'GET' && method !== 'HEAD') || !URL.canParse(location, from)) return
  const to = new URL(location, from)
  return to.protocol === 'https:' || to.protocol === from.protocol ? to : undefined
}

function sendable(body: Uint8Array | AsyncIterable<Uint8Array>): Uint8Array | Readable {
  return body instanceof Uint8Array ? body : Readable.from(body, { objectMode: false })
}

/** Where the body names no code of ours. */
const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  401: 'UNAUTHORIZED',
  403: 'DENIED',
  405: 'UNSUPPORTED',
  408: 'TARGET_UNAVAILABLE',
  413: 'SIZE_INVALID',
  429: 'TOOMANYREQUESTS',
}

async function failure(response: Dispatcher.ResponseData, what: string): Promise<CodedError> {
  const text = await startOf(response.body)
  const said = firstError(text)
  const message = said?.message ?? `${what} answered ${response.statusCode}`
  const { statusCode: status } = response
  const isRefusal = status >= 400 && status < 500
  const byStatus = codeOfStatus[status] ?? (isRefusal ? 'REQUEST_INVALID' : 'TARGET_UNAVAILABLE')
  const retryAfterSeconds = Number(response.headers['retry-after'])
  const options = retryAfterSeconds > 0 ? { detail: { retryAfterSeconds } } : {}
  return reportedError(said?.code ?? '', message, byStatus, options)
}

/** The first bytes of an error's body; a server may send anything. */
async function startOf(body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for await (const chunk of body) {
      const bytes: Uint8Array = chunk
      chunks.push(bytes)
      size += bytes.length
      if (size >= mostErrorBytes) break
    }
  } catch {
    // The status says enough where the body breaks.
  }
  return Buffer.concat(chunks).toString()
}

function firstError(text: string): { code: string; message: string } | undefined {
  const { errors } = Object(parsed(text))
  const [first] = Array.isArray(errors) ? errors : []
  return typeof first?.code === 'string'
    ? { code: first.code, message: String(first.message) }
    : undefined
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Not our kind of body: the status then has to do.
    return undefined
  }
}
