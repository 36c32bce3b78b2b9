import { connect } from 'node:net'
import { buffers } from '../buffers.ts'
import { NoAnswerError } from './s3-errors.ts'

/** The answer to a GET. Disposing closes what is not read. */
export interface Answer extends AsyncDisposable {
  readonly status: number
  /** `name` in lower case. */
  header(name: string): string | undefined
  /** All that follows the head; a chunk is valid until the next one is asked for. */
  readonly body: AsyncIterable<Uint8Array>
}

export interface GetOptions {
  readonly headers: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  /** No byte for so long ends it. */
  readonly idleMs: number
}

const mostHeadBytes = 64 * 1024

/**
 * A GET of an `http:` URL on a connection of its own, whose bytes the system writes straight into
 * one large buffer: a third of the work of an HTTP client. For answers with a length, as S3 gives.
 * @see RFC 9112
 */
export async function getBySocket(url: URL, options: GetOptions): Promise<Answer> {
  const stream = openStream(url, options)
  try {
    stream.write(requestHead(url, options.headers))
    const { status, headers, rest } = await readHead(stream)
    if (headers.has('transfer-encoding')) throw new NoAnswerError('the answer has no length')
    return {
      status,
      header: (name) => headers.get(name),
      body: bodyOf(stream, rest),
      [Symbol.asyncDispose]: stream.close,
    }
  } catch (error) {
    await stream.close()
    throw error
  }
}

interface Stream {
  write(text: string): void
  /** The next bytes; `undefined` at the end. The ones before are not valid any more. */
  next(): Promise<Uint8Array | undefined>
  close(): Promise<void>
}

function openStream(url: URL, { signal, idleMs }: GetOptions): Stream {
  const buffer = buffers.take()
  let arrived: Uint8Array | undefined
  let ended = false
  let failure: unknown
  let wake: (() => void) | undefined

  function fail(error: unknown): void {
    failure ??= error
    socket.destroy()
    wake?.()
  }
  const socket = connect({
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 80 : Number(url.port),
    noDelay: true,
    onread: {
      buffer,
      callback(size) {
        arrived = buffer.subarray(0, size)
        wake?.()
        // Nothing more before the caller is done with these: there is one buffer.
        return false
      },
    },
  })
  const closed = new Promise<void>((resolve) => socket.on('close', resolve))
  socket.setTimeout(idleMs, () => fail(new NoAnswerError(`no byte for ${idleMs} ms`)))
  socket.on('error', fail)
  for (const event of ['end', 'close']) {
    socket.on(event, () => {
      ended = true
      wake?.()
    })
  }
  const onAbort = (): void => fail(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()

  return {
    write: (text) => void socket.write(text),
    async next() {
      for (;;) {
        if (failure !== undefined) throw failure
        const chunk = arrived
        arrived = undefined
        if (chunk) return chunk
        if (ended) return undefined
        const woken = new Promise<void>((resolve) => (wake = resolve))
        socket.resume()
        await woken
      }
    },
    async close() {
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      await closed
      // Neither the system writes into it any more nor does the caller read from it.
      buffers.giveBack(buffer)
    },
  }
}

async function* bodyOf(stream: Stream, first: Uint8Array): AsyncGenerator<Uint8Array, void> {
  if (first.length > 0) yield first
  for (let chunk = await stream.next(); chunk; chunk = await stream.next()) yield chunk
}

function requestHead(url: URL, headers: Readonly<Record<string, string>>): string {
  const all = Object.entries({ host: url.host, connection: 'close', ...headers })
  const fields = all.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return `GET ${url.pathname}${url.search} HTTP/1.1\r\n${fields}\r\n`
}

async function readHead(stream: Stream) {
  let head = Buffer.alloc(0)
  for (;;) {
    const chunk = await stream.next()
    if (!chunk) throw new NoAnswerError('the connection was closed before an answer')
    const before = head.length
    head = Buffer.concat([head, chunk.subarray(0, mostHeadBytes)])
    const end = head.indexOf('\r\n\r\n')
    if (end >= 0) {
      const [start = '', ...fields] = head.toString('latin1', 0, end).split('\r\n')
      const status = /^HTTP\/1\.[01] (\d{3})/.exec(start)?.[1]
      if (status === undefined) throw new NoAnswerError('the answer is not HTTP')
      const headers = new Map(fields.map(parseField))
      return { status: Number(status), headers, rest: chunk.subarray(end + 4 - before) }
    }
    if (head.length >= mostHeadBytes) throw new NoAnswerError('the head of the answer has no end')
  }
}

function parseField(line: string): [name: string, value: string] {
  const colon = line.indexOf(':')
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
}
