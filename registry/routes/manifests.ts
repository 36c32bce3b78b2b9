import { digestAlgorithm, digestOf, type Descriptor } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import { parseReference, parseTag, type Reference } from '../../core/reference.ts'
import { manifestLimitBytes } from '../manifests.ts'
import { readSmallBody } from '../request-body.ts'
import { isNotModified, queryValues, type Call, type Handler } from './context.ts'

/** Tags that one request may set. */
const mostTags = 32

/** GET and HEAD: the bytes as pushed. @see OCI distribution-spec §pulling-manifests */
export const getManifest: Handler<'manifest'> = async ({ store, target, request, reply }) => {
  const reference = parseReference(target.reference)
  const found = await store.registry.repository(target.name).manifests.get(reference)
  if (!found) throw manifestUnknown(target)
  const etag = `"${found.digest}"`
  reply.headers({ 'docker-content-digest': found.digest, etag })
  if (isNotModified(request, etag)) return reply.code(304).send()
  reply.headers({ 'content-type': found.mediaType, 'content-length': found.size })
  return request.method === 'HEAD' ? reply.send() : reply.send(Buffer.from(found.bytes))
}

/** @see OCI distribution-spec §pushing-manifests */
export const putManifest: Handler<'manifest'> = async (call) => {
  const { store, target, request, reply } = call
  const reference = parseReference(target.reference)
  const { name, manifests } = store.registry.repository(target.name)
  const tags = queryValues(request, 'tag').map((tag) => parseTag(tag))
  if (tags.length > mostTags) {
    throw new CodedError('REQUEST_INVALID', `at most ${mostTags} tags can be set at once`)
  }
  const mediaType = request.headers['content-type']?.split(';', 1)[0]?.trim() ?? ''
  const bytes = await readSmallBody(request, call.body, manifestLimitBytes)
  const algorithm = checkDigest(reference, bytes)
  const targets = reference.kind === 'tag' ? [reference.tag, ...tags] : tags
  let stored: Descriptor | undefined
  for (const tag of targets.length > 0 ? targets : [undefined]) {
    stored = await manifests.put({ mediaType, bytes }, { tag, replace: true, algorithm })
  }
  if (tags.length > 0) reply.header('oci-tag', tags.join(', '))
  return reply
    .code(201)
    .headers({
      location: `/v2/${name}/manifests/${stored?.digest}`,
      'docker-content-digest': stored?.digest,
    })
    .send()
}

/** @see OCI distribution-spec §deleting-manifests */
export const deleteManifest: Handler<'manifest'> = async ({ store, target, reply }) => {
  const reference = parseReference(target.reference)
  const { manifests } = store.registry.repository(target.name)
  if (!(await manifests.delete(reference))) throw manifestUnknown(target)
  return reply.code(202).send()
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

function manifestUnknown({ name, reference }: Call<'manifest'>['target']): CodedError {
  return new CodedError('MANIFEST_UNKNOWN', `no manifest ${reference} in the repository ${name}`)
}
