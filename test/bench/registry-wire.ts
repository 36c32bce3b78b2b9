import { connect, type Socket } from 'node:net'

const readBytes = 2 ** 20
const headEnd = '\r\n\r\n'

export interface WireRequest {
  readonly method: string
  readonly url: string
  readonly headers?: Readonly<Record<string, string | number>>
  readonly body?: Iterable<Uint8Array> | AsyncIterable<Uint8Array>
  /** Gets the bytes of the answer's body; the memory is used again when it returns. */
  readonly onBody?: (bytes: Uint8Array) => void
}

export interface WireAnswer {
  readonly status: number
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly bodyBytes: number
}

/**
 * One HTTP request on a connection of its own, with no more work per byte than the system calls:
 * bodies go out as they are and come in to one buffer. Reads as much as `Content-Length` says, or
 * to the end. Throws where the connection breaks before that, or the server stops reading.
 */
export async function exchange(request: WireRequest): Promise<WireAnswer> {
  const { hostname, port, pathname, search, host } = new URL(request.url)
  const answer = createAnswerReader(request.onBody)
  const buffer = Buffer.allocUnsafe(readBytes)
  const socket = connect({
    host: hostname,
    port: Number(port),
    noDelay: true,
    onread: {
      buffer,
      callback(count) {
        answer.take(buffer.subarray(0, count))
        if (answer.isComplete(request.method)) socket.destroy()
        return true
      },
    },
  })
  const closed = new Promise<void>((resolve, reject) => {
    socket.once('close', () => resolve()).once('error', reject)
  })
  // Reported below, where it is awaited.
  closed.catch(() => {})
  const headers = { host, connection: 'close', ...request.headers }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  socket.resume()
  socket.write([`${request.method} ${pathname}${search} HTTP/1.1`, ...lines].join('\r\n') + headEnd)
  try {
    await send(socket, request.body ?? [], () => answer.hasHead)
    await closed
  } catch (error) {
    if (!answer.isComplete(request.method)) throw error
  } finally {
    socket.destroy()
  }
  if (answer.isComplete(request.method) || answer.isOpenEnded) return answer.result()
  throw new Error(`${request.method} ${request.url}: the connection ended before the answer`)
}

/** Stops where the server has answered already. */
async function send(
  socket: Socket,
  body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  isAnswered: () => boolean,
): Promise<void> {
  let wake = (): void => {}
  socket.on('drain', () => wake()).on('close', () => wake())
  for await (const piece of body) {
    if (isAnswered() || socket.destroyed) return
    if (socket.write(piece)) continue
    await new Promise<void>((resolve) => {
      wake = resolve
      if (socket.destroyed) resolve()
    })
  }
}

function createAnswerReader(onBody: WireRequest['onBody']) {
  let head = ''
  let hasHead = false
  let status = 0
  let bodyBytes = 0
  let expectedBytes = Infinity
  const headers = new Map<string, string>()

  function parseHead(): void {
    const [first = '', ...lines] = head.split('\r\n')
    status = Number(first.split(' ')[1])
    for (const line of lines) {
      const at = line.indexOf(':')
      headers.set(line.slice(0, at).toLowerCase(), line.slice(at + 1).trim())
    }
    const length = headers.get('content-length')
    if (length !== undefined) expectedBytes = Number(length)
  }

  function takeBody(bytes: Uint8Array): void {
    if (bytes.length === 0) return
    bodyBytes += bytes.length
    onBody?.(bytes)
  }

  return {
    get hasHead() {
      return hasHead
    },
    /** The answer is whatever comes until the connection ends. */
    get isOpenEnded() {
      return hasHead && expectedBytes === Infinity
    },
    take(bytes: Buffer): void {
      if (hasHead) return takeBody(bytes)
      const before = head.length
      head += bytes.toString('latin1')
      const end = head.indexOf(headEnd)
      if (end < 0) return
      head = head.slice(0, end)
      hasHead = true
      parseHead()
      takeBody(bytes.subarray(end + headEnd.length - before))
    },
    isComplete(method: string): boolean {
      if (!hasHead) return false
      return method === 'HEAD' || status === 204 || status === 304 || bodyBytes >= expectedBytes
    },
    result: (): WireAnswer => ({ status, headers, bodyBytes }),
  }
}
