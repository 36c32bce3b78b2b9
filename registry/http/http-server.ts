import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import {
  constants,
  createSecureServer,
  type Http2SecureServer,
  type ServerHttp2Stream,
} from 'node:http2'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { endDeadSessions } from './dead-sessions.ts'
import { refuseConnect } from './malformed.ts'
import { lingerMs, noteExpectContinue } from './request-body.ts'
import { factsOf } from './request-facts.ts'
import type { ServerTls } from './tls.ts'
import { http2StreamOf } from './transport.ts'

/** Bearer tokens of some issuers take 10 KiB. */
const headersLimitBytes = 32 * 1024
const keepAliveMs = 75_000
/** A client that is gone without a word is found by TCP after about this and some probes. */
const probeAfterMs = 60_000
/** Bytes of one body, and of all bodies of one connection, that HTTP/2 clients send unasked. */
const streamWindowBytes = 4 * 1024 * 1024
const connectionWindowBytes = 16 * 1024 * 1024
const mostStreams = 128

export interface HttpServersOptions {
  /** Without it the servers speak HTTP/1.1 only, in clear. */
  readonly tls: ServerTls | undefined
  /** All header lines of a request must have come in this time; a TLS handshake too. */
  readonly headersLimitMs: number
  /** Connections beyond are closed at once. */
  readonly maxConnections: number
  readonly onRefusedConnection: () => void
  /** Called for every request, also for those that no route sees. */
  readonly onRequest: (incoming: IncomingMessage, response: ServerResponse) => void
}

/** The Node servers below Fastify: HTTP/1.1, and with TLS also HTTP/2, chosen by ALPN. */
export interface HttpServers {
  /** Makes one server; Fastify asks for several where a name has several addresses. */
  create(handler: Handler): Server
  /** Connections that are open now. */
  connectionCount(): number
  /** Closes those that no request is at work on. */
  closeIdle(): void
  /** Closes all, whatever is at work on them. */
  cutAll(): void
  /** True where bytes of an answer are on their way: anything else sent now would be taken for more of them. */
  isAnswering(socket: Duplex): boolean
}

type Handler = (incoming: IncomingMessage, response: ServerResponse) => void

export function createHttpServers(options: HttpServersOptions): HttpServers {
  const { tls, headersLimitMs, maxConnections, onRefusedConnection, onRequest } = options
  const servers = new Set<Server>()
  const sockets = new Set<Socket>()
  const answers = new WeakMap<Duplex, Set<ServerResponse>>()
  const limits = {
    maxHeaderSize: headersLimitBytes,
    headersTimeout: headersLimitMs,
    connectionsCheckingInterval: Math.ceil(headersLimitMs / 3),
    // A push of 100 GB takes as long as it takes; only being slow is cut.
    requestTimeout: 0,
    // Ours says why.
    requireHostHeader: false,
    keepAliveTimeout: keepAliveMs,
    keepAlive: true,
    keepAliveInitialDelay: probeAfterMs,
  }

  function createTlsServer(serverTls: ServerTls): Server {
    const secure = createSecureServer({
      ...limits,
      ...serverTls.options(),
      allowHTTP1: true,
      handshakeTimeout: headersLimitMs,
      settings: {
        initialWindowSize: streamWindowBytes,
        maxConcurrentStreams: mostStreams,
        maxHeaderListSize: headersLimitBytes,
      },
    })
    secure.on('session', (session) => {
      session.setLocalWindowSize(connectionWindowBytes)
      session.setTimeout(keepAliveMs, () => session.close())
    })
    endDeadSessions(secure, headersLimitMs)
    serverTls.attach(secure)
    return asHttpServer(secure)
  }

  function accept(handler: Handler, incoming: IncomingMessage, response: ServerResponse): void {
    const stream = http2StreamOf(incoming)
    if (stream) {
      // What HTTP/1.1 calls Host; everything behind this knows only that.
      incoming.headers.host = incoming.headers[':authority']?.toString() ?? incoming.headers.host
      stream.once('finish', () => setImmediate(stopSending, stream))
    } else {
      noteAnswer(incoming.socket, response)
      response.once('finish', () => {
        if (!incoming.complete) setTimeout(() => incoming.socket.destroy(), lingerMs).unref()
      })
    }
    response.setHeader('x-request-id', factsOf(incoming).id)
    onRequest(incoming, response)
    handler(incoming, response)
  }

  function noteAnswer(socket: Duplex, response: ServerResponse): void {
    const open = answers.get(socket) ?? new Set()
    answers.set(socket, open.add(response))
    response.once('close', () => open.delete(response))
  }

  return {
    create(handler) {
      const server = tls ? createTlsServer(tls) : createServer(limits)
      server.maxConnections = maxConnections
      const onAny = (incoming: IncomingMessage, response: ServerResponse): void =>
        accept(handler, incoming, response)
      server.on('request', onAny)
      // Other expectations than the one to be told to send are nothing that we know.
      server.on('checkExpectation', onAny)
      server.on('checkContinue', (incoming: IncomingMessage, response: ServerResponse) => {
        noteExpectContinue(incoming)
        onAny(incoming, response)
      })
      server.on('connection', (socket) => {
        sockets.add(socket)
        socket.once('close', () => sockets.delete(socket))
      })
      server.on('drop', onRefusedConnection)
      server.on('connect', refuseConnect)
      servers.add(server)
      return server
    },
    connectionCount: () => sockets.size,
    closeIdle() {
      for (const server of servers) server.closeIdleConnections()
    },
    cutAll() {
      for (const socket of sockets) socket.destroy()
    },
    isAnswering: (socket) =>
      [...(answers.get(socket) ?? [])].some(({ headersSent }) => headersSent),
  }
}

/** Tells a client that has its answer and still sends that nobody reads it. */
function stopSending(stream: ServerHttp2Stream): void {
  if (stream.endAfterHeaders || stream.readableEnded || stream.closed) return
  stream.close(constants.NGHTTP2_NO_ERROR)
}

/**
 * Fastify and all routes are typed for the server of `node:http`. The one of HTTP/2 gives them
 * requests and answers with the same members; where they differ, `transport.ts` knows how.
 */
function asHttpServer(server: Http2SecureServer): Server {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as said above
  return server as unknown as Server
}
