import { Readable } from 'node:stream'
import { Agent, request, type Dispatcher } from 'undici'
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

/** HTTP to one registry server. The caller consumes or dumps every body. */
export interface HttpClient extends AsyncDisposable {
  readonly base: URL
  /** `path` is relative to the base, or an absolute URL of the same origin. */
  send(path: string, options: SendOptions): Promise<Dispatcher.ResponseData>
}

/**
 * Throws TARGET_UNAVAILABLE where the server cannot be reached, and for an answer that is not
 * accepted the code in its body, so that an error reads the same here as there.
 */
export function createHttpClient(base: URL): HttpClient {
  const agent = new Agent({ connect: { timeout: 15_000 }, headersTimeout: 0, bodyTimeout: 120_000 })
  return {
    base,
    async send(path, { method, headers = {}, body, signal, accept }) {
      const url = new URL(path, base)
      if (url.origin !== base.origin) {
        throw new CodedError(
          'TARGET_UNAVAILABLE',
          `${base.host} sent us to another host: ${url.host}`,
        )
      }
      let response: Dispatcher.ResponseData
      try {
        response = await request(url, {
          dispatcher: agent,
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
          `cannot reach ${base.origin}: ${error instanceof Error ? error.message : String(error)}; is 'dvcr serve' running there?`,
          { cause: error },
        )
      }
      if (accept.includes(response.statusCode)) return response
      throw await failure(response, `${method} ${url.pathname} on ${base.host}`)
    },
    [Symbol.asyncDispose]: () => agent.destroy(),
  }
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
  return reportedError(said?.code ?? '', message, byStatus)
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
  try {
    const { errors } = JSON.parse(text)
    const [first] = Array.isArray(errors) ? errors : []
    return typeof first?.code === 'string'
      ? { code: first.code, message: String(first.message) }
      : undefined
  } catch {
    // Not our kind of body: the status then has to do.
    return undefined
  }
}
