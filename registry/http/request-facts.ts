import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

/** What is known of one request while it runs, for the access log, metrics and traces. */
export interface RequestFacts {
  /** The client's `X-Request-Id` where that is well formed, else a UUID. */
  readonly id: string
  /** When it came, as `performance.now()`. */
  readonly startedMs: number
  /** Bytes of its body that were taken. */
  bytesIn: number
  /** Bytes of the answer's body that were handed to the socket by a handler that streams. */
  bytesOut: number
  /** A label with few values: the endpoint, never a name or digest. */
  route: string
  /** Who asks, as `kind:name`; undefined where nobody was asked for. */
  identity: string | undefined
  /** It was cut off because its client was slower than the floor speed. */
  isTooSlow: boolean
}

/** What logs and other services can carry as it is. */
const wellFormedId = /^[\w.:+=@-]{1,128}$/

const known = new WeakMap<IncomingMessage, RequestFacts>()

/** The facts of a request; the first call notes its start. */
export function factsOf(raw: IncomingMessage): RequestFacts {
  const noted = known.get(raw)
  if (noted) return noted
  const sent = raw.headers['x-request-id']
  const facts: RequestFacts = {
    id: typeof sent === 'string' && wellFormedId.test(sent) ? sent : randomUUID(),
    startedMs: performance.now(),
    bytesIn: 0,
    bytesOut: 0,
    route: 'none',
    identity: undefined,
    isTooSlow: false,
  }
  known.set(raw, facts)
  return facts
}

/**
 * The path that was asked for, without the query, and of a whole URL without what is before the
 * path: both may hold what is no business of logs.
 */
export function pathOf(raw: IncomingMessage): string {
  const path = (raw.url ?? '').split('?', 1)[0] ?? ''
  return path.replace(/^[a-z]+:\/\/[^/]*/i, '').slice(0, 1000)
}
