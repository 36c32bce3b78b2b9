import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import {
  fastify,
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
} from 'fastify'
import { CodedError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import { describeFailure } from './error-body.ts'
import { guardRequest, type GuardMode } from './guard.ts'
import { registerHealth } from './health.ts'
import type { Metrics } from './metrics.ts'
import { answerEarly, isBodyUnread, noteExpectContinue, sendContinue } from './request-body.ts'
import { registerDistribution } from './routes/distribution.ts'
import type { Store } from './store.ts'
import { parseTarget } from './target.ts'

const headersLimitMs = 15_000
const keepAliveMs = 75_000

export interface ServerOptions {
  readonly store: Store
  readonly log: Log
  readonly metrics: Metrics
  /** What a server without authentication refuses. */
  readonly guard: GuardMode
  /** A body that stands still for so long has its connection cut; two minutes unless said. */
  readonly stallLimitMs?: number
  /** Requests at work may go on for so long after `close()`; ten seconds unless said. */
  readonly drainMs?: number
}

/**
 * The registry's HTTP server, not listening yet: routes of other parts may be added. The caller
 * closes it, and the store after it.
 */
export function createServer(options: ServerOptions): FastifyInstance {
  const { store, metrics, guard, stallLimitMs = 120_000, drainMs = 10_000 } = options
  const loggerInstance: FastifyBaseLogger = options.log
  const app: FastifyInstance = fastify({
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true }),
    // A push of 100 GB takes as long as it takes; only standing still is cut.
    requestTimeout: 0,
    keepAliveTimeout: keepAliveMs,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 4096 },
    clientErrorHandler: refuseMalformed,
    frameworkErrors: (error, _request, reply: FastifyReply) => {
      const { status, body } = describeFailure(error, 'ours')
      void reply.code(status).send(body)
    },
  })
  app.server.headersTimeout = headersLimitMs
  app.server.on('checkContinue', (incoming: IncomingMessage, response: ServerResponse) => {
    noteExpectContinue(incoming)
    app.server.emit('request', incoming, response)
  })
  metrics.observeUploads(() => store.uploads.openCount)
  addHooks(app, { metrics, guard, drainMs })
  addFailureHandlers(app, metrics)
  registerHealth(app, { store, metrics })
  registerDistribution(app, { store, metrics, stallLimitMs })
  return app
}

function addHooks(
  app: FastifyInstance,
  {
    metrics,
    guard,
    drainMs,
  }: { readonly metrics: Metrics; readonly guard: GuardMode; readonly drainMs: number },
): void {
  app.addHook('onRequest', async (request) => guardRequest(request, guard))
  app.addHook('preParsing', async (request, reply) => {
    // Handlers of /v2/ let the client send once they know that they want the body.
    if (!request.url.startsWith('/v2/')) sendContinue(request, reply)
  })
  app.addHook('onResponse', async (request, reply) => {
    const seconds = reply.elapsedTime / 1000
    const { method } = request
    const status = reply.raw.statusCode
    metrics.request({
      route: routeOf(request.url, request.routeOptions.url),
      method,
      status,
      seconds,
    })
    request.log.debug({ method, url: request.url, status, seconds }, 'request')
  })
  app.addHook('preClose', async () => {
    // Uploads that are cut keep what arrived; their clients go on with the next server.
    setTimeout(() => app.server.closeAllConnections(), drainMs).unref()
  })
}

/** A label with few values: the endpoint, never a name or digest. */
function routeOf(url: string, pattern: string | undefined): string {
  if (!url.startsWith('/v2/')) return pattern ?? 'none'
  const path = url.slice('/v2/'.length).split('?', 1)[0] ?? ''
  return `/v2/ ${parseTarget(path)?.kind ?? 'none'}`
}

function addFailureHandlers(app: FastifyInstance, metrics: Metrics): void {
  app.setErrorHandler((error, request, reply) => {
    const failure = describeFailure(error, vocabularyOf(request.url))
    metrics.error(failure.code)
    const facts = { err: error, code: failure.code, method: request.method, url: request.url }
    if (failure.status >= 500) request.log.error(facts, 'a request failed')
    else request.log.debug(facts, 'a request was refused')
    if (isBodyUnread(request)) return answerEarly(request, reply, failure)
    return reply.code(failure.status).send(failure.body)
  })
  app.setNotFoundHandler((request, reply) => {
    const where = `${request.method} ${request.url.slice(0, 300)}`
    const refusal = new CodedError('REQUEST_INVALID', `nothing at ${where}`)
    const { body } = describeFailure(refusal, vocabularyOf(request.url))
    if (isBodyUnread(request)) return answerEarly(request, reply, { status: 404, body })
    return reply.code(404).send(body)
  })
}

const vocabularyOf = (url: string): 'spec' | 'ours' => (/^\/v2(?:\/|$)/.test(url) ? 'spec' : 'ours')

/** Answers what is not HTTP at all; there is no request to answer by. */
function refuseMalformed(error: Error & { readonly code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const refusal = new CodedError('REQUEST_INVALID', `not an HTTP request: ${error.message}`)
  const body = JSON.stringify(describeFailure(refusal, 'ours').body)
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? '431 Too Large' : '400 Bad Request'
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
}
