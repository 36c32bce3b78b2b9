import type { Http2SecureServer, ServerHttp2Session } from 'node:http2'
import type { TLSSocket } from 'node:tls'

/**
 * Closes connections whose HTTP/2 session is over. Node does it too, but not where a session ends
 * by a protocol error while it writes and the client goes away at that moment: such a connection
 * would stay open for good, and a client can make as many as it likes.
 */
export function endDeadSessions(server: Http2SecureServer, everyMs: number): void {
  const sessions = new Map<TLSSocket, ServerHttp2Session>()
  const suspects = new Set<TLSSocket>()
  let made: ServerHttp2Session | undefined
  server.on('session', (session) => (made = session))
  server.on('secureConnection', (socket) => {
    // The session of this connection was made right before, if it is one of HTTP/2.
    if (made) sessions.set(socket, made)
    made = undefined
    socket.once('close', () => {
      sessions.delete(socket)
      suspects.delete(socket)
    })
  })
  const timer = setInterval(() => {
    for (const socket of suspects) socket.destroy()
    for (const [socket, { destroyed }] of sessions) if (destroyed) suspects.add(socket)
  }, everyMs)
  timer.unref()
  server.once('close', () => clearInterval(timer))
}
