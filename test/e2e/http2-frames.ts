import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'

const types = { data: 0, headers: 1, reset: 3, settings: 4 } as const
const endHeaders = 4

/** One frame. @see RFC 9113 §4.1 */
export function frame(
  type: keyof typeof types,
  { stream, flags = 0, payload = Buffer.of() }: FrameFields,
): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(types[type], 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

interface FrameFields {
  readonly stream: number
  readonly flags?: number
  readonly payload?: Uint8Array
}

/** A request's HEADERS frame, every field as a literal. @see RFC 7541 §6.2.2 */
export function headersFrame(
  stream: number,
  fields: Readonly<Record<string, string>>,
  flags = 0,
): Buffer {
  const literal = (text: string) => Buffer.concat([Buffer.of(text.length), Buffer.from(text)])
  const lines = Object.entries(fields).map(([name, value]) =>
    Buffer.concat([Buffer.of(0), literal(name), literal(value)]),
  )
  return frame('headers', { stream, flags: endHeaders | flags, payload: Buffer.concat(lines) })
}

/** RST_STREAM. @see RFC 9113 §6.4 */
export function resetFrame(stream: number, code: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt32BE(code)
  return frame('reset', { stream, payload })
}

/** A TLS connection that chose HTTP/2 and has sent its preface; what comes is thrown away. */
export async function connectHttp2(port: number): Promise<TLSSocket> {
  const options = { host: '127.0.0.1', port, ALPNProtocols: ['h2'], rejectUnauthorized: false }
  const socket = connect(options)
  await once(socket, 'secureConnect')
  socket.on('error', () => {}).resume()
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  socket.write(frame('settings', { stream: 0 }))
  return socket
}
