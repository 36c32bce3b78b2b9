import { randomUUID } from 'node:crypto'
import type { Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import { isNonDistributable, type Manifest } from '../core/manifest.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { keys } from './keys.ts'
import { decodeJson, encodeJson, manifestRecord, type ManifestRecord } from './records.ts'
import { removeDead, type Versioned } from './versioned.ts'

/** A manifest's record with the exact bytes as pushed. */
export interface StoredRecord extends Versioned<ManifestRecord> {
  readonly bytes: Uint8Array
}

const newline = 10

/** Reads a manifest's one object: a line of JSON, then the bytes as pushed. */
export async function readManifest(
  objects: ObjectStore,
  name: string,
  digest: Digest,
): Promise<StoredRecord | undefined> {
  const key = keys.manifest(name, digest)
  const stored = await objects.get(key)
  if (!stored) return undefined
  const end = stored.bytes.indexOf(newline)
  if (end < 0) throw new CodedError('UNKNOWN', `the stored record ${key} is damaged`)
  const record = decodeJson(manifestRecord, stored.bytes.subarray(0, end), key)
  return { record, bytes: stored.bytes.subarray(end + 1), etag: stored.etag }
}

/** Writes it where the version read (none: `undefined`) is still there; the new version, if so. */
export async function swapManifest(
  objects: ObjectStore,
  key: string,
  { record, bytes }: { readonly record: ManifestRecord; readonly bytes: Uint8Array },
  current: { readonly etag: string } | undefined,
): Promise<StoredRecord | undefined> {
  const condition = current ? { ifMatch: current.etag } : 'ifAbsent'
  const object = Buffer.concat([encodeJson(record), bytes])
  const etag = await objects.put(key, object, condition)
  return etag === undefined ? undefined : { record, bytes, etag }
}

/** Moves a manifest to `state`; `undefined` where it is no longer the version that was read. */
export function changeManifest(
  objects: ObjectStore,
  name: string,
  digest: Digest,
  found: StoredRecord,
  state: ManifestRecord['state'],
): Promise<StoredRecord | undefined> {
  const { since: _, ...record } = found.record
  const since = state === 'live' ? {} : { since: new Date().toISOString() }
  const changed = { ...record, state, nonce: randomUUID(), ...since }
  return swapManifest(objects, keys.manifest(name, digest), { ...found, record: changed }, found)
}

/**
 * Clears away a dead manifest, unless it was pushed again. A push puts the referrer's entry there
 * before the manifest and looks for it afterwards; so does this, the other way round.
 */
export async function removeManifest(
  objects: ObjectStore,
  name: string,
  digest: Digest,
  dead: StoredRecord,
): Promise<void> {
  const { subject } = dead.record
  await removeDead(objects, keys.manifest(name, digest), dead)
  if (!subject) return
  await objects.delete(keys.referrer(name, subject, digest))
  const after = await readManifest(objects, name, digest)
  if (after && isServed(after)) await enterReferrer(objects, name, digest, subject)
}

/** Lists `digest` among the referrers of `subject`. */
export async function enterReferrer(
  objects: ObjectStore,
  name: string,
  digest: Digest,
  subject: Digest,
): Promise<void> {
  await objects.put(keys.referrer(name, subject, digest), new Uint8Array(), 'ifAbsent')
}

/** True where clients are given it. */
export function isServed({ record }: Versioned<ManifestRecord>): boolean {
  return record.state === 'live' || record.state === 'condemned'
}

/** The record of a manifest that is being pushed. */
export function describeManifest(mediaType: string, manifest: Manifest): ManifestRecord {
  const { config, layers = [], manifests = [], subject, annotations } = manifest
  const blobs = config ? [config, ...layers] : layers
  const isElsewhere = (blob: { readonly mediaType: string }): boolean => isNonDistributable(blob)
  const named = Object.values(annotations ?? {}).filter(isDigest)
  return {
    state: 'pending',
    nonce: randomUUID(),
    mediaType,
    blobs: unique(blobs.filter((blob) => !isElsewhere(blob))),
    manifests: unique(manifests),
    // What is fetched from elsewhere may still have been pushed, and annotations may name blobs.
    kept: [...unique(blobs.filter(isElsewhere)), ...named],
    ...(subject ? { subject: subject.digest } : {}),
    ...artifactTypeOf(manifest),
    ...(annotations ? { annotations } : {}),
    at: new Date().toISOString(),
  }
}

/** @see OCI distribution-spec §listing-referrers: an image without one has its config's type. */
function artifactTypeOf({ artifactType, config }: Manifest): { readonly artifactType?: string } {
  const type = artifactType === undefined || artifactType === '' ? config?.mediaType : artifactType
  return type === undefined ? {} : { artifactType: type }
}

const unique = (descriptors: readonly { readonly digest: Digest }[]): Digest[] => [
  ...new Set(descriptors.map(({ digest }) => digest)),
]

const isDigest = (text: string): text is Digest => /^sha256:[0-9a-f]{64}$/.test(text)
