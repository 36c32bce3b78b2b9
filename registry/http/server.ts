import type { IncomingMessage } from 'node:http'
import {
  fastify,
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify'
import { limitAnswers } from './answer-limit.ts'
import { CodedError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import type { AccessControl } from '../auth/access-control.ts'
import { registerAccess } from '../auth/register-access.ts'
import { describeFailure, type Failure } from './error-body.ts'
import { guardRequest, type GuardMode } from './guard.ts'
import { registerHealth } from './health.ts'
import { createHttpMetrics } from './http-metrics.ts'
import { createHttpServers, type HttpServers } from './http-server.ts'
import { refuseMalformed } from './malformed.ts'
import type { Metrics } from '../metrics.ts'
import { noEvents, type Events } from '../notifications/events.ts'
import { answerEarly, hasBody, isBodyUnread, sendContinue } from './request-body.ts'
import { factsOf, pathOf } from './request-facts.ts'
import { observeRequest, type RequestObserver } from './request-observer.ts'
import { queryValue } from '../routes/context.ts'
import { registerAdmin } from '../routes/admin.ts'
import { registerDistribution } from '../routes/distribution.ts'
import type { Store } from '../store.ts'
import { parseTarget } from './target.ts'
import type { ServerTls } from './tls.ts'
import { cutOff } from './transport.ts'

export interface ServerOptions {
  readonly store: Store
  readonly log: Log
  readonly metrics: Metrics
  /** What is refused of web pages. */
  readonly guard: GuardMode
  /** Who may do what; without it everybody may do everything. */
  readonly access?: AccessControl | undefined
  /** Serves HTTPS, with HTTP/2, in place of HTTP. */
  readonly tls?: ServerTls | undefined
  /** Told of what is pushed, pulled and deleted. */
  readonly events?: Events
  /** Told of every request at its end. */
  readonly observers?: readonly RequestObserver[]
  /** A client that stands still for so long is cut off; two minutes unless said. */
  readonly stallLimitMs?: number
  /** Bytes per second that a client must keep on average; 1 KiB unless said. */
  readonly floorSpeed?: number
  /** Headers must have come in this time; 15 seconds unless said. */
  readonly headersLimitMs?: number
  /** Connections at a time; 10,000 unless said. */
  readonly maxConnections?: number
  /** Requests at work may go on for so long after `close()`; ten seconds unless said. */
  readonly drainMs?: number
  /** The URL that stands for a request with `?ns=`, which asks us for another registry's content. */
  readonly resolveNamespace?: (url: string) => string
}

/**
 * The registry's HTTP server, not listening yet: routes of other parts may be added. The caller
 * closes it, and the store after it.
 */
export function createServer(options: ServerOptions): FastifyInstance {
  const { store, metrics, stallLimitMs = 120_000, floorSpeed = 1024 } = options
  const { resolveNamespace = (url) => url } = options
  const loggerInstance: FastifyBaseLogger = options.log
  const httpMetrics = createHttpMetrics(metrics.registry)
  const observers = [httpMetrics.observe, ...(options.observers ?? [])]
  const servers = createHttpServers({
    tls: options.tls,
    headersLimitMs: options.headersLimitMs ?? 15_000,
    maxConnections: options.maxConnections ?? 10_000,
    onRefusedConnection: () => httpMetrics.refusedConnection(),
    onRequest: (incoming, response) => observeRequest(incoming, response, observers),
  })
  const app: FastifyInstance = fastify({
    loggerInstance,
    logController: new LogController({
      disableRequestLogging: true,
      requestIdLogLabel: 'requestId',
    }),
    genReqId: (raw) => factsOf(raw).id,
    serverFactory: (handler) => servers.create(handler),
    // A client that comes while the server stops is still answered, on its last connection.
    return503OnClosing: false,
    exposeHeadRoutes: false,
    rewriteUrl: ({ url = '/' }) => resolveNamespace(url),
    routerOptions: { maxParamLength: 4096 },
    clientErrorHandler(error, socket) {
      metrics.error('REQUEST_INVALID')
      refuseMalformed(error, socket, { isAnswering: servers.isAnswering(socket) })
    },
    frameworkErrors: (error, request, reply: FastifyReply) => {
      const { status, body } = describeFailure(error, vocabularyOf(request.url))
      void reply.code(status).send(body)
    },
  })
  httpMetrics.watchConnections(() => servers.connectionCount())
  metrics.observeUploads(() => store.uploads.openCount)
  addHooks(app, { guard: options.guard, smallBodyLimitMs: stallLimitMs })
  drainOnClose(app, servers, options.drainMs ?? 10_000)
  addFailureHandlers(app, metrics)
  if (options.access) registerAccess(app, options.access, options.log)
  const speed = { stallLimitMs, bytesPerSecond: floorSpeed }
  limitAnswers(app, speed)
  registerHealth(app, { store, metrics })
  const { events = noEvents } = options
  registerDistribution(app, { store, metrics, speed, events })
  registerAdmin(app, { admin: store.admin, speed })
  return app
}

function addHooks(
  app: FastifyInstance,
  { guard, smallBodyLimitMs }: { readonly guard: GuardMode; readonly smallBodyLimitMs: number },
): void {
  app.addHook('onRequest', async (request, reply) => {
    factsOf(request.raw).route = routeOf(request.url, request.routeOptions.url)
    requireOneHost(request.raw)
    if (request.url !== request.originalUrl) {
      reply.header('oci-namespace', queryValue(request, 'ns'))
    }
    guardRequest(request, guard)
  })
  app.addHook('preParsing', async (request, reply) => {
    // Nobody reads what comes with these, and closing on it would cut the answer.
    if (request.method === 'GET' || request.method === 'HEAD') request.raw.resume()
    // Some handlers let the client send once they know that they want the body, and see to its
    // speed; Fastify reads the others as a whole.
    const { access, body } = request.routeOptions.config
    if (access === 'distribution' || body === 'stream') return
    sendContinue(request, reply)
    if (hasBody(request.raw)) limitBody(request, reply, smallBodyLimitMs)
  })
}

/** Two could mean one server to a proxy and another one to us. @see RFC 9112 §3.2 */
function requireOneHost({ httpVersion, rawHeaders }: IncomingMessage): void {
  if (httpVersion !== '1.1') return
  const hosts = rawHeaders.filter((name, at) => at % 2 === 0 && /^host$/i.test(name)).length
  if (hosts === 1) return
  throw new CodedError('REQUEST_INVALID', `a request has one Host header; this one has ${hosts}`)
}

/** Cuts a request off whose body is not there in time. */
function limitBody({ raw }: FastifyRequest, reply: FastifyReply, limitMs: number): void {
  const timer = setTimeout(() => {
    factsOf(raw).isTooSlow = true
    cutOff(raw)
  }, limitMs)
  timer.unref()
  const stop = (): void => clearTimeout(timer)
  raw.once('end', stop)
  reply.raw.once('close', stop)
}

/** Requests at work go on for `drainMs`; what is idle, or becomes it, is closed. */
function drainOnClose(app: FastifyInstance, servers: HttpServers, drainMs: number): void {
  let isDraining = false
  app.addHook('preClose', async () => {
    isDraining = true
    const closing = setInterval(() => servers.closeIdle(), 100)
    // Uploads that are cut keep what arrived; their clients go on with the next server.
    const cutting = setTimeout(() => servers.cutAll(), drainMs)
    app.server.once('close', () => {
      clearInterval(closing)
      clearTimeout(cutting)
    })
  })
  app.addHook('onSend', async (request, reply) => {
    if (isDraining && request.raw.httpVersionMajor < 2) reply.header('connection', 'close')
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
    const { method, raw } = request
    const facts = { err: error, code: failure.code, method, path: pathOf(raw) }
    if (failure.status >= 500) request.log.error(facts, 'a request failed')
    else request.log.debug(facts, 'a request was refused')
    return answerFailure(request, reply, failure)
  })
  app.setNotFoundHandler((request, reply) => {
    const where = `${request.method} ${pathOf(request.raw).slice(0, 300)}`
    const refusal = new CodedError('REQUEST_INVALID', `nothing at ${where}`)
    const failure = describeFailure(refusal, vocabularyOf(request.url))
    metrics.error(failure.code)
    return answerFailure(request, reply, { ...failure, status: 404 })
  })
}

function answerFailure(request: FastifyRequest, reply: FastifyReply, failure: Failure): unknown {
  const { status } = failure
  const { retryAfterSeconds } = failure.body.errors[0].detail ?? {}
  if (typeof retryAfterSeconds === 'number') reply.header('retry-after', retryAfterSeconds)
  // Who reports a fault of ours can then say which line of the log it is.
  const body = status >= 500 ? withDetail(failure.body, { requestId: request.id }) : failure.body
  if (isBodyUnread(request)) return answerEarly(request, reply, { status, body })
  return reply.code(status).send(body)
}

function withDetail({ errors }: Failure['body'], facts: Readonly<Record<string, unknown>>) {
  return { errors: errors.map((error) => ({ ...error, detail: { ...error.detail, ...facts } })) }
}

const vocabularyOf = (url: string): 'spec' | 'ours' => (/^\/v2(?:\/|$)/.test(url) ? 'spec' : 'ours')
