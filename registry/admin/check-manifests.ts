import { digestAlgorithm, digestOf, type Digest } from '../../core/digest.ts'
import { parseManifest } from '../../core/manifest.ts'
import { keys } from '../keys.ts'
import { describeManifest, isServed, readManifest } from '../manifest-records.ts'
import { linkRecord, tagRecord, type ManifestRecord } from '../records.ts'
import type { CheckParts } from './check-blobs.ts'
import { finding, type Finding } from './findings.ts'
import { see, whyNot } from './see.ts'

const dayMs = 24 * 60 * 60 * 1000

/**
 * A manifest has the bytes of its digest, its record says what they say, and what it refers to is
 * in the repository.
 */
export async function checkManifest(
  parts: CheckParts,
  name: string,
  digest: Digest,
): Promise<Finding[]> {
  const key = keys.manifest(name, digest)
  let stored: Awaited<ReturnType<typeof readManifest>>
  try {
    stored = await readManifest(parts.objects, name, digest)
  } catch (error) {
    return [finding('record-damaged', key, whyNot(error))]
  }
  if (!stored) return []
  const { record, bytes } = stored
  if (!isServed(stored)) return checkUnfinished(key, record)
  const actual = digestOf(bytes, digestAlgorithm(digest))
  if (actual !== digest) return [finding('manifest-differs', key, `its bytes have ${actual}`)]
  let described: ManifestRecord
  try {
    described = describeManifest(record.mediaType, parseManifest(record.mediaType, bytes))
  } catch (error) {
    return [finding('manifest-differs', key, whyNot(error))]
  }
  const different = differences(record, described)
  if (different.length > 0) {
    const problem = `its record says something else than its bytes about ${different.join(', ')}`
    return [finding('manifest-record-differs', key, problem)]
  }
  return checkReferences(parts, name, digest, record)
}

function checkUnfinished(key: string, { state, at, since = at }: ManifestRecord): Finding[] {
  if (Date.parse(since) + dayMs > Date.now()) return []
  return [finding('manifest-unfinished', key, `it is ${state} since ${since}`)]
}

/** Names of the facts that the collector and the referrers API go by, where they differ. */
function differences(record: ManifestRecord, described: ManifestRecord): string[] {
  const facts = ({
    blobs,
    manifests,
    kept,
    subject,
    artifactType,
    annotations,
  }: ManifestRecord) => ({
    blobs: [...blobs].sort(),
    manifests: [...manifests].sort(),
    kept: [...kept].sort(),
    subject,
    artifactType,
    annotations,
  })
  const said = Object.entries(facts(record))
  const bytesSay = new Map(Object.entries(facts(described)))
  return said
    .filter(([fact, value]) => JSON.stringify(value) !== JSON.stringify(bytesSay.get(fact)))
    .map(([fact]) => fact)
}

async function checkReferences(
  parts: CheckParts,
  name: string,
  digest: Digest,
  { blobs, manifests, subject, partial = false }: ManifestRecord,
): Promise<Finding[]> {
  const key = keys.manifest(name, digest)
  const found: Finding[] = []
  // What a mirror has not fetched yet is not missing.
  for (const blob of partial ? [] : blobs) {
    const { record, damage } = await see(parts, linkRecord, keys.link(name, blob))
    if (damage || (record && record.state !== 'dead')) continue
    found.push(finding('blob-missing', key, `its blob ${blob} is not in the repository`))
  }
  for (const child of partial ? [] : manifests) {
    if (await isServedAt(parts, name, child)) continue
    found.push(finding('child-missing', key, `its manifest ${child} is not in the repository`))
  }
  if (subject && !(await parts.objects.get(keys.referrer(name, subject, digest)))) {
    found.push(finding('referrer-missing', key, `it is no referrer of its subject ${subject}`))
  }
  return found
}

/** True also for one that is damaged: that is found where it lies. */
async function isServedAt(parts: CheckParts, name: string, digest: Digest): Promise<boolean> {
  try {
    const stored = await readManifest(parts.objects, name, digest)
    return stored !== undefined && isServed(stored)
  } catch {
    return true
  }
}

/** A tag points to a manifest that is served. */
export async function checkTag(parts: CheckParts, name: string, tag: string): Promise<Finding[]> {
  const key = keys.tag(name, tag)
  const { record, damage } = await see(parts, tagRecord, key)
  if (damage) return [damage]
  if (!record) return []
  const { digest, mediaType, size, at } = record
  let stored: Awaited<ReturnType<typeof readManifest>>
  try {
    stored = await readManifest(parts.objects, name, digest)
  } catch {
    return []
  }
  if (!stored || !isServed(stored)) {
    const kind = Date.parse(at) + dayMs > Date.now() ? 'tag-young' : 'tag-dangling'
    return [finding(kind, key, `its manifest ${digest} is not in the repository`)]
  }
  if (stored.bytes.length === size && stored.record.mediaType === mediaType) return []
  return [finding('tag-differs', key, `it says ${size} bytes of ${mediaType}, of ${digest}`)]
}

/** An entry in the list of referrers belongs to a manifest that names that subject. */
export async function checkReferrer(
  parts: CheckParts,
  {
    name,
    subject,
    digest,
  }: { readonly name: string; readonly subject: Digest; readonly digest: Digest },
): Promise<Finding[]> {
  const key = keys.referrer(name, subject, digest)
  let stored: Awaited<ReturnType<typeof readManifest>>
  try {
    stored = await readManifest(parts.objects, name, digest)
  } catch {
    return []
  }
  if (stored?.record.subject === subject) return []
  if (!(await parts.objects.get(key))) return []
  return [finding('referrer-orphan', key, `no manifest ${digest} names that subject`)]
}
