import { parseDigest } from '../../core/digest.ts'
import type { ByteRange } from '../../core/registry.ts'
import { parseRange } from '../http/range.ts'
import { sendBody } from '../http/response-body.ts'
import { blobUnknown } from '../store-registry.ts'
import { isNotModified, type Call, type Handler } from './context.ts'

/** A digest always names the same bytes. */
const cacheControl = 'max-age=31536000, immutable'

/** GET and HEAD of a blob. @see OCI distribution-spec §pulling-blobs */
export const getBlob: Handler<'blob'> = async (call) => {
  const { store, target, request, reply } = call
  const digest = parseDigest(target.digest)
  const blob = await store.registry.repository(target.name).blobs.find(digest)
  if (!blob) throw blobUnknown(target.name, digest)
  const etag = `"${digest}"`
  reply.headers({
    'docker-content-digest': digest,
    etag,
    'cache-control': cacheControl,
    'accept-ranges': 'bytes',
  })
  if (isNotModified(request, etag)) return reply.code(304).send()
  // Clients ask for the same range there. A HEAD is answered here: a URL is signed for one method.
  const elsewhere = request.method === 'GET' ? await blob.redirect(request.hostname) : undefined
  if (elsewhere !== undefined) {
    return reply.header('cache-control', 'no-store').redirect(elsewhere, 307)
  }
  const range = request.method === 'GET' ? askedRange(call, blob.size, etag) : undefined
  reply.headers({
    'content-type': 'application/octet-stream',
    'content-length': range ? range.end - range.start : blob.size,
  })
  if (range) {
    reply.header('content-range', `bytes ${range.start}-${range.end - 1}/${blob.size}`).code(206)
  }
  if (request.method === 'HEAD') return reply.send()
  const { metrics, speed } = call
  const onSent = (bytes: number): void => metrics.sent(bytes)
  return sendBody((signal) => blob.read(range, signal), { request, reply, speed, onSent })
}

/** Removes the blob from the repository. @see OCI distribution-spec §deleting-blobs */
export const deleteBlob: Handler<'blob'> = async ({ store, target, reply, notify }) => {
  const digest = parseDigest(target.digest)
  if (!(await store.registry.repository(target.name).blobs.delete(digest))) {
    throw blobUnknown(target.name, digest)
  }
  notify('delete', { digest })
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
