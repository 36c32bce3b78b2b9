import type { ServerResponse } from 'node:http'
import { parseDigest } from '../../core/digest.ts'
import type { Bytes } from '../../core/streams.ts'
import type { ByteRange } from '../../core/registry.ts'
import { parseRange } from '../range.ts'
import { writeHead } from '../request-body.ts'
import { blobUnknown } from '../store-registry.ts'
import { isNotModified, type Call, type Handler } from './context.ts'

/** A digest always names the same bytes. */
const cacheControl = 'max-age=31536000, immutable'

/** GET and HEAD of a blob. @see OCI distribution-spec §pulling-blobs */
export const getBlob: Handler<'blob'> = async (call) => {
  const { store, target, request, reply } = call
  const digest = parseDigest(target.digest)
  const { blobs } = store.registry.repository(target.name)
  const stat = await blobs.stat(digest)
  if (!stat) throw blobUnknown(target.name, digest)
  const etag = `"${digest}"`
  reply.headers({
    'docker-content-digest': digest,
    etag,
    'cache-control': cacheControl,
    'accept-ranges': 'bytes',
  })
  if (isNotModified(request, etag)) return reply.code(304).send()
  const range = request.method === 'GET' ? askedRange(call, stat.size, etag) : undefined
  reply.headers({
    'content-type': 'application/octet-stream',
    'content-length': range ? range.end - range.start : stat.size,
  })
  if (range) {
    reply.header('content-range', `bytes ${range.start}-${range.end - 1}/${stat.size}`).code(206)
  }
  if (request.method === 'HEAD') return reply.send()
  return sendBytes(call, (signal) => blobs.read(digest, { range, signal }))
}

/** Removes the blob from the repository. @see OCI distribution-spec §deleting-blobs */
export const deleteBlob: Handler<'blob'> = async ({ store, target, reply }) => {
  const digest = parseDigest(target.digest)
  if (!(await store.registry.repository(target.name).blobs.delete(digest))) {
    throw blobUnknown(target.name, digest)
  }
  return reply.code(202).send()
}

function askedRange(
  { request, reply }: Call<'blob'>,
  size: number,
  etag: string,
): ByteRange | undefined {
  const { range, 'if-range': ifRange } = request.headers
  if (ifRange !== undefined && ifRange !== etag) return undefined
  try {
    return parseRange(range, size)
  } catch (error) {
    reply.header('content-range', `bytes */${size}`)
    throw error
  }
}

/**
 * Sends the chunks as they are, without copying: each is with the socket before the next one is
 * asked for. Answers nothing more where the client goes away; cuts the connection where reading
 * fails, so that nobody takes the part for the whole.
 */
async function sendBytes(
  { request, reply, metrics, stallLimitMs }: Call<'blob'>,
  read: (signal: AbortSignal) => Bytes,
): Promise<void> {
  const { raw: response } = reply
  const gone = new AbortController()
  const write = createWriter(response, gone)
  reply.hijack()
  writeHead(reply, reply.statusCode)
  request.raw.socket.setTimeout(stallLimitMs)
  try {
    for await (const chunk of read(gone.signal)) {
      await write(chunk)
      metrics.sent(chunk.length)
    }
    response.end()
  } catch (error) {
    response.destroy()
    if (!gone.signal.aborted) request.log.error({ err: error }, 'cannot read a blob')
  } finally {
    request.raw.socket.setTimeout(0)
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
    response.write(chunk, (error) => (error ? reject(error) : resolve()))
    return promise
  }
}
