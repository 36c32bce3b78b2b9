import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  constants,
  Http2ServerRequest,
  Http2ServerResponse,
  type ServerHttp2Stream,
} from 'node:http2'

/** The stream of a request that came by HTTP/2; undefined for HTTP/1.1. */
export function http2StreamOf(raw: IncomingMessage): ServerHttp2Stream | undefined {
  return raw instanceof Http2ServerRequest ? raw.stream : undefined
}

/** True once `response` has emitted `close`, or is about to. */
export function isOver(response: ServerResponse): boolean {
  if (response instanceof Http2ServerResponse) return response.stream.destroyed
  return response.closed
}

/** Ends what carries this one request, at once: the stream of HTTP/2, else the connection. */
export function cutOff(raw: IncomingMessage): void {
  const stream = http2StreamOf(raw)
  if (stream) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
  else raw.socket.destroy()
}

/**
 * Calls `onStall` where nothing moves on the connection of this request (of HTTP/2, its stream)
 * for `limitMs`, not even a part of a chunk; until it is disposed.
 */
export function watchStall(raw: IncomingMessage, limitMs: number, onStall: () => void): Disposable {
  const carrier = http2StreamOf(raw) ?? raw.socket
  carrier.setTimeout(limitMs, onStall)
  return { [Symbol.dispose]: () => void carrier.setTimeout(0, onStall) }
}
