import type { IncomingMessage, ServerResponse } from 'node:http'
import { bodyBytes } from './request-body.ts'
import { http2StreamOf } from './transport.ts'
import { factsOf, pathOf, type RequestFacts } from './request-facts.ts'

/** One request at its end. */
export interface EndedRequest extends Readonly<RequestFacts> {
  readonly raw: IncomingMessage
  /** Of the methods that HTTP knows, else `other`: HTTP/2 lets clients send any word. */
  readonly method: string
  /** Without the query. */
  readonly path: string
  /** 499 where the client went away before it had one. */
  readonly status: number
  readonly seconds: number
  /** Whether the whole answer was handed to the connection. */
  readonly isAnswered: boolean
  /** The client's address; undefined where the connection was gone before. */
  readonly remote: string | undefined
}

/** Told of every request once it has ended, answered or not. It must not throw. */
export type RequestObserver = (request: EndedRequest) => void

const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

const clientGone = 499

/** Calls all observers when `response` is over. */
export function observeRequest(
  raw: IncomingMessage,
  response: ServerResponse,
  observers: readonly RequestObserver[],
): void {
  const facts = factsOf(raw)
  // It is gone once the connection is.
  const remote = raw.socket.remoteAddress
  response.once('close', () => {
    const ended: EndedRequest = {
      ...facts,
      bytesIn: facts.bytesIn > 0 ? facts.bytesIn : smallBodyBytes(raw),
      bytesOut: facts.bytesOut > 0 ? facts.bytesOut : answeredBytes(raw, response),
      raw,
      method: methods.has(raw.method ?? '') ? (raw.method ?? '') : 'other',
      path: pathOf(raw),
      status: response.headersSent ? response.statusCode : clientGone,
      seconds: (performance.now() - facts.startedMs) / 1000,
      isAnswered: response.headersSent && response.writableFinished,
      remote,
    }
    for (const observe of observers) observe(ended)
  })
}

/** Of a body that Fastify has read as a whole. */
function smallBodyBytes(raw: IncomingMessage): number {
  // A stream of HTTP/2 is complete by its name also where it ended before its body did.
  const isRead = http2StreamOf(raw) ? raw.readableEnded : raw.complete
  return isRead ? (bodyBytes(raw) ?? 0) : 0
}

/** Of a body that was sent as a whole. */
function answeredBytes({ method }: IncomingMessage, response: ServerResponse): number {
  const hasNone = method === 'HEAD' || response.statusCode === 304 || !response.headersSent
  return hasNone ? 0 : Number(response.getHeader('content-length') ?? 0)
}
