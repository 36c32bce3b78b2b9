import type { Dispatcher } from 'undici'
import { CodedError, toCodedError } from '../../core/errors.ts'
import type { HttpClient, SendOptions } from '../../core/http-client.ts'
import type { MirrorMetrics } from './metrics.ts'

/** The head of an answer has to come within this time; its bytes may then take any time. */
const defaultPatienceMs = 30_000

export interface UpstreamOptions extends SendOptions {
  /** The head has to come within this time; half a minute unless said. */
  readonly patienceMs?: number
}

/** Sends requests to one upstream registry; failures are the mirror's own, and counted. */
export interface UpstreamRequests {
  /** The upstream, as messages name it. */
  readonly host: string
  /**
   * An answer with one of the accepted statuses; the caller consumes or dumps its body. Throws
   * UPSTREAM_UNAVAILABLE, DENIED where the upstream refuses, TOOMANYREQUESTS where it says so.
   */
  send(path: string, options: UpstreamOptions): Promise<Dispatcher.ResponseData>
  /** The failure of a request that went wrong after its answer began. */
  failed(error: unknown, path: string): CodedError
}

export function createUpstreamRequests(
  http: HttpClient,
  { host, metrics }: { readonly host: string; readonly metrics: MirrorMetrics },
): UpstreamRequests {
  const ours = new WeakSet<CodedError>()

  function failed(error: unknown, path: string): CodedError {
    if (error instanceof CodedError && ours.has(error)) return error
    const failure = translate(error, `${path} of ${host}`)
    ours.add(failure)
    metrics.upstreamError(failure.code)
    return failure
  }

  return {
    host,
    failed,
    async send(path, { patienceMs = defaultPatienceMs, ...options }) {
      const { signal } = options
      const patience = new AbortController()
      const timer = setTimeout(() => {
        patience.abort(new Error(`no answer within ${patienceMs / 1000} s`))
      }, patienceMs)
      const either = signal ? AbortSignal.any([signal, patience.signal]) : patience.signal
      try {
        return await http.send(path, { ...options, signal: either })
      } catch (error) {
        signal?.throwIfAborted()
        throw failed(error, path)
      } finally {
        clearTimeout(timer)
      }
    },
  }
}

/**
 * What the client of a mirror hears. The upstream's 401 must not reach it: it would send the client
 * for credentials that are not its to give.
 */
function translate(error: unknown, what: string): CodedError {
  const { code, message, detail = {} } = toCodedError(error)
  const said = code === 'UNKNOWN' && error instanceof Error ? error.message : message
  if (code === 'TOOMANYREQUESTS') {
    return new CodedError(code, `the upstream limits requests for ${what}: ${said}`, {
      cause: error,
      detail,
    })
  }
  if (code === 'UNAUTHORIZED' || code === 'DENIED') {
    return new CodedError(
      'DENIED',
      `the upstream does not let this mirror read ${what}: ${said}; check the name and the mirror's credentials`,
      { cause: error },
    )
  }
  return new CodedError('UPSTREAM_UNAVAILABLE', `cannot read ${what}: ${said}`, { cause: error })
}
