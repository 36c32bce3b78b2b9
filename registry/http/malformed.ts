import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { CodedError } from '../../core/errors.ts'
import { describeFailure } from './error-body.ts'
import { lingerMs } from './request-body.ts'

/** What Node's HTTP parser complains of, where it is not just a bad request. */
const statuses: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: '413 Content Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
}

const refused = new WeakSet<Duplex>()

/**
 * Answers what is not an HTTP/1.1 request; there is no request to answer by. `isAnswering`: an
 * answer is on its way, and this one would be taken for a part of it. The connection ends a
 * moment later, so that a client that is still sending can read why.
 */
export function refuseMalformed(
  error: Error & { readonly code?: string },
  socket: Duplex,
  { isAnswering }: { readonly isAnswering: boolean },
): void {
  // More of the same bytes are no new request.
  if (refused.has(socket)) return
  refused.add(socket)
  if (error.code === 'ECONNRESET' || !socket.writable || isAnswering) {
    socket.destroy()
    return
  }
  const refusal = new CodedError('REQUEST_INVALID', `not an HTTP request: ${error.message}`)
  endWith(socket, statuses[error.code ?? ''] ?? '400 Bad Request', refusal)
}

/** Answers CONNECT, which HTTP/1.1 gives us as a socket and HTTP/2 as a request. */
export function refuseConnect(_incoming: IncomingMessage, target: Duplex | ServerResponse): void {
  const refusal = new CodedError('UNSUPPORTED', 'this server is no proxy')
  if (!('writeHead' in target)) {
    endWith(target, '405 Method Not Allowed', refusal)
    return
  }
  target.writeHead(refusal.status, { 'content-type': 'application/json' })
  target.end(JSON.stringify(describeFailure(refusal, 'spec').body))
}

function endWith(socket: Duplex, status: string, refusal: CodedError): void {
  const body = JSON.stringify(describeFailure(refusal, 'spec').body)
  // It may be gone by now, which is as well.
  socket.on('error', () => {})
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
  setTimeout(() => socket.destroy(), lingerMs).unref()
}
