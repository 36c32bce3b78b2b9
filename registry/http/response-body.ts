import type { ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Bytes } from '../../core/streams.ts'
import { createPace, type FloorSpeed } from './floor-speed.ts'
import { writeHead } from './request-body.ts'
import { factsOf } from './request-facts.ts'
import { cutOff, watchStall } from './transport.ts'

export interface SendOptions {
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  readonly speed: FloorSpeed
  /** Called with the size of every chunk that was handed to the socket. */
  readonly onSent: (bytes: number) => void
}

/**
 * Sends the head as set on the reply and then the chunks as they are, without copying: each is
 * with the socket before the next one is asked for. Answers nothing more where the client goes
 * away or is slower than `speed`; cuts the connection where reading fails, so that nobody takes
 * the part for the whole. Throws where not even the first chunk can be read.
 */
export async function sendBody(
  read: (signal: AbortSignal) => Bytes,
  { request, reply, speed, onSent }: SendOptions,
): Promise<void> {
  const { raw } = request
  const { raw: response } = reply
  const facts = factsOf(raw)
  const gone = new AbortController()
  const write = createWriter(response, gone)
  const chunks = read(gone.signal)[Symbol.asyncIterator]()
  let next: IteratorResult<Uint8Array>
  try {
    // What fails before the first byte is answered as a failure.
    next = await chunks.next()
  } catch (error) {
    if (gone.signal.aborted) {
      reply.hijack()
      return
    }
    // They described what now does not come.
    for (const name of Object.keys(reply.getHeaders())) {
      if (/^(?:content-|etag|cache-|accept-|docker-content-)/.test(name)) reply.removeHeader(name)
    }
    throw error
  }
  reply.hijack()
  writeHead(reply, reply.statusCode)
  const onTooSlow = (): void => {
    request.log.info({ bytes: facts.bytesOut }, 'a body was taken too slowly and was cut off')
    facts.isTooSlow = true
    cutOff(raw)
  }
  using pace = createPace(speed, onTooSlow)
  // A chunk may take long at the floor speed; a client that takes no part of one is cut before.
  const stall = watchStall(raw, speed.stallLimitMs, onTooSlow)
  try {
    for (; next.done !== true; next = await chunks.next()) {
      const { length } = next.value
      pace.begin(length)
      await write(next.value)
      pace.end(0)
      facts.bytesOut += length
      onSent(length)
    }
    response.end()
  } catch (error) {
    response.destroy()
    if (!gone.signal.aborted) request.log.error({ err: error }, 'cannot read a blob')
  } finally {
    stall[Symbol.dispose]()
    await chunks.return?.()
  }
}

/** Writes and waits until the socket has the chunk; rejects once the client is `gone`. */
function createWriter(
  response: ServerResponse,
  gone: AbortController,
): (chunk: Uint8Array) => Promise<void> {
  // A socket that is cut does not always answer for the write at work: whoever waits is told here.
  let refuse: ((reason: unknown) => void) | undefined
  response.once('close', () => {
    gone.abort()
    refuse?.(gone.signal.reason)
  })
  return (chunk) => {
    gone.signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    refuse = reject
    response.write(chunk, (error) => {
      if (!error) resolve()
      else {
        // It can be gone before it says so.
        gone.abort()
        reject(error)
      }
    })
    return promise
  }
}
