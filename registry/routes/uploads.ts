import {
  digestAlgorithm,
  parseDigest,
  type Digest,
  type DigestAlgorithm,
} from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import { observed } from '../../core/streams.ts'
import { parseContentRange } from '../http/range.ts'
import { bodyBytes, freeing, hasBody } from '../http/request-body.ts'
import { blobType } from '../notifications/envelope.ts'
import type { Upload, UploadBody } from '../uploads/upload.ts'
import { queryValue, type Call, type Handler } from './context.ts'

/** Starts an upload, takes a whole blob, or mounts one. @see OCI distribution-spec §push */
export const startUpload: Handler<'uploads'> = async (call) => {
  const { store, target, request, reply, access } = call
  const { name } = store.registry.repository(target.name)
  const digest = queryValue(request, 'digest')
  if (digest !== undefined) return uploadAtOnce(call, name, parseDigest(digest))
  const mount = queryValue(request, 'mount')
  const from = queryValue(request, 'from')
  if (mount !== undefined) {
    const mounted = parseDigest(mount)
    // A source that the rules allow and only the token does not: a client can ask for another one.
    if (from !== undefined && access.mayFind(from)) access.demand('pull', from)
    const options = { from, to: name, mayPull: access.mayFind }
    if (await store.registry.mountBlob(mounted, options)) {
      call.notify('mount', { digest: mounted, mediaType: blobType, fromRepository: from })
      return created(call, name, mounted)
    }
  }
  const upload = await store.uploads.create(name, { algorithm: askedAlgorithm(call) })
  return describe(reply.code(202), name, upload).send()
}

/** What the blob's digest will be of, where the client says so. @see OCI distribution-spec §end-4c */
function askedAlgorithm({ request }: Call<'uploads'>): DigestAlgorithm | undefined {
  const asked = queryValue(request, 'digest-algorithm')
  if (asked === undefined || asked === 'sha256' || asked === 'sha512') return asked
  throw new CodedError(
    'DIGEST_INVALID',
    `no digest algorithm ${asked}; there are sha256 and sha512`,
  )
}

async function uploadAtOnce(call: Call<'uploads'>, name: string, digest: Digest): Promise<unknown> {
  const upload = await call.store.uploads.create(name, {
    expectedBytes: bodyBytes(call.request.raw),
    algorithm: digestAlgorithm(digest),
  })
  try {
    await upload.commit(digest, readUploadBody(call))
    call.notify('push', { digest, mediaType: blobType, size: upload.offset })
  } catch (error) {
    // Nobody was told of this session; what cannot be removed now the sweep finds.
    await upload.cancel().catch(() => {})
    throw error
  }
  return created(call, name, digest)
}

/** Takes the next bytes. @see OCI distribution-spec §pushing-a-blob-in-chunks */
export const appendUpload: Handler<'upload'> = async (call) => {
  const upload = await openUpload(call)
  const body = readUploadBody(call)
  if (body) await upload.append(body)
  return describe(call.reply.code(202), call.target.name, upload).send()
}

/** Takes the last bytes, if any, and makes the blob readable. */
export const finishUpload: Handler<'upload'> = async (call) => {
  const digest = queryValue(call.request, 'digest')
  if (digest === undefined) {
    throw new CodedError('DIGEST_INVALID', 'an upload ends with PUT <location>?digest=<digest>')
  }
  const parsed = parseDigest(digest)
  try {
    const upload = await openUpload(call)
    await upload.commit(parsed, readUploadBody(call))
    call.notify('push', { digest: parsed, mediaType: blobType, size: upload.offset })
  } catch (error) {
    // The answer to the same request may have been lost.
    const isRepeated = error instanceof CodedError && error.code === 'BLOB_UPLOAD_UNKNOWN'
    const { blobs } = call.store.registry.repository(call.target.name)
    if (!isRepeated || !(await blobs.stat(parsed))) throw error
  }
  return created(call, call.target.name, parsed)
}

/** How far an upload is. @see OCI distribution-spec §end-13 */
export const getUpload: Handler<'upload'> = async (call) => {
  const upload = await openUpload(call)
  await upload.refresh()
  return describe(call.reply.code(204), call.target.name, upload).send()
}

export const cancelUpload: Handler<'upload'> = async (call) => {
  const upload = await openUpload(call)
  await upload.cancel()
  return call.reply.code(204).send()
}

function openUpload({ store, target }: Call<'upload'>): Promise<Upload> {
  const { name } = store.registry.repository(target.name)
  return store.uploads.open(name, target.id)
}

function readUploadBody({
  request,
  body,
  metrics,
}: Call<'upload'> | Call<'uploads'>): UploadBody | undefined {
  if (!hasBody(request.raw)) return undefined
  const header = request.headers['content-range']
  const range = header === undefined ? undefined : parseContentRange(header)
  const expectedBytes = bodyBytes(request.raw)
  if (range && expectedBytes !== undefined && range.end - range.start !== expectedBytes) {
    throw new CodedError(
      'SIZE_INVALID',
      `Content-Range says ${range.end - range.start} bytes, Content-Length ${expectedBytes}`,
    )
  }
  return {
    bytes: freeing(observed(body(), (chunk) => metrics.received(chunk.length))),
    at: range?.start,
    expectedBytes: expectedBytes ?? 0,
  }
}

/** Where the upload goes on, without a query: some clients drop it. */
function describe(reply: Call<'upload'>['reply'], name: string, { id, offset }: Upload) {
  return reply.headers({
    location: `/v2/${name}/blobs/uploads/${id}`,
    range: `0-${Math.max(0, offset - 1)}`,
    'docker-upload-uuid': id,
    ...(reply.statusCode === 202 ? { 'content-length': 0 } : {}),
  })
}

function created(
  { reply }: Call<'upload'> | Call<'uploads'>,
  name: string,
  digest: Digest,
): unknown {
  return reply
    .code(201)
    .headers({ location: `/v2/${name}/blobs/${digest}`, 'docker-content-digest': digest })
    .send()
}
