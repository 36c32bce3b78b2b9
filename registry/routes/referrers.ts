import { digestAlgorithm, digestHex, parseDigest, type Digest } from '../../core/digest.ts'
import { createGate } from '../../core/gate.ts'
import { isManifestIndex, mediaTypes, parseManifest } from '../../core/manifest.ts'
import { describeManifest } from '../manifest-records.ts'
import type { Referrer, StoredManifests } from '../manifests.ts'
import { queryValue, type Handler } from './context.ts'

/** Read at once, fewer at first and behind large ones: annotations can make each 4 MiB. */
const firstAtOnce = 2
const mostAtOnce = 16
/** A page ends after so many entries or bytes of them, as soon as it has either. */
const pageEntries = 500
const pageBytes = 1024 * 1024
/** A page of large ones takes many times its size, and strangers ask for hundreds together. */
const building = createGate({ atOnce: 2, waiting: 1000, what: 'listings of referrers at work' })

/** Part of a listing: what is after `last`, up to and with `next`, or to the end without one. */
interface ListedPage {
  readonly next: Digest | undefined
  readonly referrers: readonly Referrer[]
}

/** An index of the manifests that name the digest. @see OCI distribution-spec §listing-referrers */
export const listReferrers: Handler<'referrers'> = async ({ store, target, request, reply }) => {
  const subject = parseDigest(target.digest)
  const artifactType = queryValue(request, 'artifactType')
  const asked = queryValue(request, 'last')
  const last = asked === undefined ? undefined : parseDigest(asked)
  const { name, manifests } = store.registry.repository(target.name)
  const { next, referrers } = await building(async () => {
    // Who has waited for it may have gone.
    request.signal.throwIfAborted()
    const own = await readPage(manifests, subject, last)
    return withFallback(manifests, subject, { ...own, last })
  })
  if (artifactType !== undefined) reply.header('oci-filters-applied', 'artifactType')
  if (next !== undefined) {
    const filter = artifactType === undefined ? {} : { artifactType }
    const query = new URLSearchParams({ ...filter, last: next })
    reply.header('link', `</v2/${name}/referrers/${subject}?${query.toString()}>; rel="next"`)
  }
  const shown = referrers.filter(
    (referrer) => artifactType === undefined || referrer.artifactType === artifactType,
  )
  const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: shown }
  return reply.header('content-type', mediaTypes.ociIndex).send(Buffer.from(JSON.stringify(index)))
}

async function readPage(
  manifests: StoredManifests,
  subject: Digest,
  last: Digest | undefined,
): Promise<ListedPage> {
  const referrers: Referrer[] = []
  let next = last
  let limit = firstAtOnce
  for (let bytes = 0; bytes < pageBytes && referrers.length < pageEntries;) {
    const part = await manifests.listReferrers(subject, { last: next, limit })
    referrers.push(...part.referrers)
    const size = JSON.stringify(part.referrers).length
    bytes += size
    limit = size > pageBytes / mostAtOnce ? 1 : Math.min(limit * 2, mostAtOnce)
    next = part.next
    if (next === undefined) break
  }
  return { next, referrers }
}

/**
 * Adds what only the tag lists that clients keep where a registry has no referrers: a store filled
 * from such a registry can have manifests that were never entered. They must name the subject.
 * @see OCI distribution-spec §enabling-the-referrers-api
 */
async function withFallback(
  manifests: StoredManifests,
  subject: Digest,
  { last, next, referrers }: ListedPage & { readonly last: Digest | undefined },
): Promise<ListedPage> {
  const index = await manifests.get({ kind: 'tag', tag: fallbackTag(subject) })
  if (!index || !isManifestIndex(index.mediaType)) return { next, referrers }
  const named = parseManifest(index.mediaType, index.bytes).manifests ?? []
  const entered = new Set(referrers.map(({ digest }) => digest))
  const others = [...new Set(named.map(({ digest }) => digest))]
    .filter((digest) => !entered.has(digest) && isBetween(digest, last, next))
    .toSorted()
  const isCut = others.length > pageEntries
  const looked = others.slice(0, pageEntries)
  const end = isCut ? looked.at(-1) : next
  const found: Referrer[] = []
  for (const digest of looked) {
    const referrer = await describeReferrer(manifests, digest, subject)
    if (referrer) found.push(referrer)
  }
  const ofPage = referrers.filter(({ digest }) => isBetween(digest, last, end))
  return { next: end, referrers: [...ofPage, ...found].toSorted(byDigest) }
}

/** What is listed of a manifest; `undefined` where it is not there or names another subject. */
async function describeReferrer(
  manifests: StoredManifests,
  digest: Digest,
  subject: Digest,
): Promise<Referrer | undefined> {
  const stored = await manifests.get({ kind: 'digest', digest })
  if (!stored) return undefined
  const { mediaType, size, bytes } = stored
  const said = describeManifest(mediaType, parseManifest(mediaType, bytes))
  if (said.subject !== subject) return undefined
  return { mediaType, digest, size, artifactType: said.artifactType, annotations: said.annotations }
}

/** @see OCI distribution-spec §referrers-tag-schema */
function fallbackTag(subject: Digest): string {
  return `${digestAlgorithm(subject)}-${digestHex(subject).slice(0, 64)}`
}

const isBetween = (digest: Digest, last: Digest | undefined, next: Digest | undefined): boolean =>
  (last === undefined || digest > last) && (next === undefined || digest <= next)

const byDigest = (a: Referrer, b: Referrer): number => (a.digest < b.digest ? -1 : 1)
