import type { FastifyRequest } from 'fastify'
import { digestAlgorithm, digestOf, type Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import { mediaTypeOf } from '../../core/manifest.ts'
import { parseReference, parseTag, type Reference } from '../../core/reference.ts'
import { noteForAudit } from '../auth/request-access.ts'
import { manifestLimitBytes } from '../manifests.ts'
import { readSmallBody } from '../http/request-body.ts'
import { isNotModified, queryValues, type Call, type Handler } from './context.ts'

/** Tags that the query of one request may set; the spec asks for at least ten. */
const mostTags = 32

/** GET and HEAD: the bytes as pushed. @see OCI distribution-spec §pulling-manifests */
export const getManifest: Handler<'manifest'> = async (call) => {
  const { store, target, request, reply, notify } = call
  const reference = parseReference(target.reference)
  const found = await store.registry.repository(target.name).manifests.get(reference)
  if (!found) throw manifestUnknown(target)
  const etag = `"${found.digest}"`
  reply.headers({ 'docker-content-digest': found.digest, etag })
  if (found.warning !== undefined) reply.header('warning', found.warning)
  if (isNotModified(request, etag)) return reply.code(304).send()
  reply.headers({ 'content-type': found.mediaType, 'content-length': found.size })
  if (request.method === 'HEAD') return reply.send()
  const { digest, mediaType, size } = found
  notify('pull', { digest, mediaType, size, ...tagOf(reference) })
  return reply.send(Buffer.from(found.bytes))
}

/** @see OCI distribution-spec §pushing-manifests */
export const putManifest: Handler<'manifest'> = async (call) => {
  const { store, target, request, reply } = call
  const reference = parseReference(target.reference)
  const { name, manifests } = store.registry.repository(target.name)
  const tags = askedTags(request)
  using hold = call.bodyMemory.hold()
  const bytes = await readSmallBody(request, call.body, { limitBytes: manifestLimitBytes, hold })
  const asked = request.headers['content-type']?.split(';', 1)[0]?.trim()
  const mediaType = asked ?? mediaTypeOf(bytes) ?? ''
  const algorithm = checkDigest(reference, bytes)
  const targets = new Set(reference.kind === 'tag' ? [reference.tag, ...tags] : tags)
  const moved: { tag: string; from: Digest | undefined }[] = []
  let stored: Awaited<ReturnType<typeof manifests.put>> | undefined
  for (const tag of targets.size > 0 ? targets : [undefined]) {
    stored = await manifests.put({ mediaType, bytes }, { tag, replace: true, algorithm })
    call.notify('push', { digest: stored.digest, mediaType, size: bytes.length, tag })
    if (tag !== undefined) moved.push({ tag, from: stored.replaced })
  }
  noteForAudit(request, { tags: moved })
  if (tags.length > 0) reply.header('oci-tag', tags.join(', '))
  if (stored?.subject) reply.header('oci-subject', stored.subject)
  // oxlint-disable-next-line typescript/return-await -- nothing is to be held until the client has the answer
  return reply
    .code(201)
    .headers({
      location: `/v2/${name}/manifests/${stored?.digest}`,
      'docker-content-digest': stored?.digest,
    })
    .send()
}

/** @see OCI distribution-spec §deleting-manifests */
export const deleteManifest: Handler<'manifest'> = async ({ store, target, reply, notify }) => {
  const reference = parseReference(target.reference)
  const { manifests } = store.registry.repository(target.name)
  if (!(await manifests.delete(reference))) throw manifestUnknown(target)
  notify('delete', reference.kind === 'tag' ? tagOf(reference) : { digest: reference.digest })
  return reply.code(202).send()
}

function askedTags(request: FastifyRequest): string[] {
  const tags = [...new Set(queryValues(request, 'tag'))]
  if (tags.length > mostTags) {
    throw new CodedError(
      'TAGS_TOO_MANY',
      `the request sets ${tags.length} tags; ${mostTags} can be set at once`,
    )
  }
  return tags.map((tag) => parseTag(tag))
}

/** The algorithm to store under; throws DIGEST_INVALID where the bytes have another digest. */
function checkDigest(reference: Reference, bytes: Uint8Array) {
  if (reference.kind === 'tag') return 'sha256'
  const algorithm = digestAlgorithm(reference.digest)
  const digest = digestOf(bytes, algorithm)
  if (digest === reference.digest) return algorithm
  throw new CodedError(
    'DIGEST_INVALID',
    `the manifest sent does not have the digest ${reference.digest}; it has ${digest}`,
  )
}

const tagOf = (reference: Reference): { readonly tag?: string } =>
  reference.kind === 'tag' ? { tag: reference.tag } : {}

function manifestUnknown({ name, reference }: Call<'manifest'>['target']): CodedError {
  return new CodedError('MANIFEST_UNKNOWN', `no manifest ${reference} in the repository ${name}`)
}
