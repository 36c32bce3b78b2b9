import type { IncomingMessage } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { CodedError } from '../../core/errors.ts'
import type { Bytes } from '../../core/streams.ts'
import type { BodyHold } from './body-memory.ts'
import { createPace, type FloorSpeed } from './floor-speed.ts'
import { factsOf } from './request-facts.ts'
import { cutOff, http2StreamOf } from './transport.ts'

/** After an early refusal so much of the body is still taken, so that the client reads the answer. */
const lingerBytes = 4 * 1024 * 1024
/** A client that still sends when it has its answer is given so long to stop. */
export const lingerMs = 1000

/** Requests whose client waits for `100 Continue` before it sends the body. */
const waiting = new WeakSet<IncomingMessage>()

/** The client of this request waits to be told that it may send. */
export function noteExpectContinue(incoming: IncomingMessage): void {
  waiting.add(incoming)
}

/** Lets a client that waits for it send its body. */
export function sendContinue(request: FastifyRequest, reply: FastifyReply): void {
  if (waiting.delete(request.raw)) reply.raw.writeContinue()
}

/** True where the request has a body, however long. */
export function hasBody(incoming: IncomingMessage): boolean {
  const { 'transfer-encoding': encoding, 'content-length': length } = incoming.headers
  if (length !== undefined) return Number(length) > 0
  const stream = http2StreamOf(incoming)
  return stream ? !stream.endAfterHeaders : encoding !== undefined
}

/** The body's length where the client said it. */
export function bodyBytes({ headers }: IncomingMessage): number | undefined {
  const text = headers['content-length']
  return text === undefined ? undefined : Number(text)
}

/** True where the client may still be sending. */
export function isBodyUnread({ raw }: FastifyRequest): boolean {
  const stream = http2StreamOf(raw)
  if (stream) return hasBody(raw) && !stream.readableEnded && !stream.destroyed
  return hasBody(raw) && !raw.complete && !raw.destroyed
}

/**
 * The request's body. It may take any time, but not be slower than `speed`: then the connection
 * is cut (of HTTP/2, the stream). Throws REQUEST_INVALID where the body breaks off. Leaving it early leaves the
 * connection usable for an answer.
 */
export async function* readBody(
  request: FastifyRequest,
  reply: FastifyReply,
  speed: FloorSpeed,
): AsyncGenerator<Uint8Array, void> {
  const { raw } = request
  const facts = factsOf(raw)
  const stream = http2StreamOf(raw)
  using pace = createPace(speed, () => {
    request.log.info({ bytes: facts.bytesIn }, 'a body came too slowly and was cut off')
    facts.isTooSlow = true
    cutOff(raw)
  })
  sendContinue(request, reply)
  const chunks = (stream ?? raw).iterator({ destroyOnReturn: false })
  try {
    for (;;) {
      pace.begin(0)
      const next: IteratorResult<Uint8Array, void> = await chunks.next().catch(refuseBroken)
      if (next.done === true) break
      pace.end(next.value.length)
      facts.bytesIn += next.value.length
      yield next.value
    }
  } finally {
    await chunks.return?.()
  }
  // A stream that its client resets can end as if its body were complete.
  if (stream?.aborted === true) refuseBroken(undefined)
}

/**
 * The same chunks, each valid until the next one is asked for. Its memory is then free at once:
 * garbage collection would come by when hundreds of them wait for it.
 */
export async function* freeing(body: Bytes): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of body) {
    yield chunk
    const { buffer, byteLength } = chunk
    // Part of a larger buffer is not this body's alone.
    if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength) buffer.transfer(0)
  }
}

/** A client that goes away is no fault of ours. */
function refuseBroken(cause: unknown): never {
  throw new CodedError('REQUEST_INVALID', 'the client gave the request up in the middle', { cause })
}

/**
 * All of a small body, held by `hold`; throws MANIFEST_TOO_LARGE beyond `limitBytes`, before reading
 * where told, and TOOMANYREQUESTS where `hold` does.
 */
export async function readSmallBody(
  request: FastifyRequest,
  body: () => Bytes,
  { limitBytes, hold }: { readonly limitBytes: number; readonly hold: BodyHold },
): Promise<Uint8Array> {
  const tooLarge = (): CodedError =>
    new CodedError('MANIFEST_TOO_LARGE', `the body is larger than the limit of ${limitBytes} bytes`)
  if ((bodyBytes(request.raw) ?? 0) > limitBytes) throw tooLarge()
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body()) {
    size += chunk.length
    if (size > limitBytes) throw tooLarge()
    hold.take(chunk.length)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Sends the head of a hijacked reply with the headers set so far. */
export function writeHead(reply: FastifyReply, status: number): void {
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) reply.raw.setHeader(name, value)
  }
  reply.raw.writeHead(status)
}

/**
 * Answers a request whose body nobody wants, without taking all of it: the answer goes out at
 * once and the connection is closed a moment later. Closing at once could destroy the answer
 * before the client has read it.
 */
export function answerEarly(
  request: FastifyRequest,
  reply: FastifyReply,
  { status, body }: { readonly status: number; readonly body: unknown },
): void {
  const { raw: incoming } = request
  const { raw: response } = reply
  const bytes = Buffer.from(JSON.stringify(body))
  reply.hijack()
  reply.headers({
    'content-type': 'application/json; charset=utf-8',
    'content-length': bytes.length,
  })
  if (http2StreamOf(incoming)) {
    // Only this stream ends; the server resets it behind the answer.
    writeHead(reply, status)
    response.end(incoming.method === 'HEAD' ? undefined : bytes)
    return
  }
  reply.header('connection', 'close')
  writeHead(reply, status)
  response.write(bytes)
  const timer = setTimeout(end, lingerMs)
  function end(): void {
    clearTimeout(timer)
    response.end()
  }
  let taken = 0
  incoming.once('close', end).once('end', end)
  incoming.on('data', (chunk: Uint8Array) => {
    taken += chunk.length
    if (taken > lingerBytes) incoming.pause()
  })
}
