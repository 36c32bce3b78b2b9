import { randomUUID } from 'node:crypto'
import { digestOf, type Descriptor, type Digest, type DigestAlgorithm } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import { parseManifest } from '../core/manifest.ts'
import type { ObjectStore } from '../core/object-store.ts'
import type { Manifests, Page, PutManifestOptions } from '../core/registry.ts'
import type { BlobIndex } from './blob-index.ts'
import { digestOfKey, keys } from './keys.ts'
import {
  changeManifest,
  describeManifest,
  enterReferrer,
  isServed,
  readManifest,
  removeManifest,
  swapManifest,
  type StoredRecord,
} from './manifest-records.ts'
import type { ManifestRecord } from './records.ts'
import type { MovedTag, Tags } from './tags.ts'

/** Largest manifest taken; the spec asks for at least 4 MB. */
export const manifestLimitBytes = 4 * 1024 * 1024

/** A manifest that names a subject. @see OCI distribution-spec §listing-referrers */
export interface Referrer extends Descriptor {
  readonly artifactType?: string | undefined
  readonly annotations?: Readonly<Record<string, string>> | undefined
}

export interface ReferrerPage {
  /** May be fewer than were asked for, also where there are more. */
  readonly referrers: readonly Referrer[]
  /** Where there are more: the `last` to go on with. */
  readonly next: Digest | undefined
}

export interface PutStoredOptions extends PutManifestOptions {
  readonly algorithm?: DigestAlgorithm
  /** What it refers to may be missing: a mirror fetches that when it is asked for. */
  readonly partial?: boolean
}

/** `Manifests` with what only clients of this registry ask for. */
export interface StoredManifests extends Manifests {
  /** `subject`: what the manifest says it belongs to; `replaced`: where the tag pointed before. */
  put(
    manifest: { readonly mediaType: string; readonly bytes: Uint8Array },
    options: PutStoredOptions,
  ): Promise<
    Descriptor & {
      readonly subject?: Digest | undefined
      readonly replaced?: Digest | undefined
    }
  >
  /** Manifests that name `subject`, in byte order of their digests; `page.last` is a digest. */
  listReferrers(subject: Digest, page: Page): Promise<ReferrerPage>
}

export interface DeletedManifest {
  readonly name: string
  readonly digest: Digest
  readonly record: ManifestRecord
  /** What only it referred to goes at once. */
  readonly reclaim: boolean
}

export interface ManifestParts {
  readonly objects: ObjectStore
  readonly index: BlobIndex
  readonly tags: Tags
  /** Hears of a manifest that is gone, with all it referred to. */
  readonly onDeleted: (manifest: DeletedManifest) => void
  /** Hears of a manifest that should go where this was its last tag. */
  readonly onUntagged: (manifest: { readonly name: string; readonly digest: Digest }) => void
}

/** The manifests of one repository. Its steps are those of `docs/decisions/010-online-gc.md`. */
export function createManifests(name: string, parts: ManifestParts): StoredManifests {
  const { objects, index, tags, onDeleted, onUntagged } = parts

  const read = (digest: Digest) => readManifest(objects, name, digest)

  /** The manifest as it serves; a condemned one is taken back, so that the answer holds. */
  async function find(digest: Digest): Promise<StoredRecord | undefined> {
    for (;;) {
      const found = await read(digest)
      if (!found || !isServed(found)) return undefined
      if (found.record.state === 'live') return found
      const taken = await changeManifest(objects, name, digest, found, 'live')
      if (taken) return taken
    }
  }

  /** `subject` may come later; what is fetched from elsewhere is never here. */
  async function requireReferences(record: ManifestRecord): Promise<void> {
    const { blobs, manifests, partial = false } = record
    const missing = [
      ...(await absent(blobs, (digest) => index.stat(name, digest))),
      ...(await absent(manifests, find)),
    ]
    if (missing.length === 0 || partial) return
    throw new CodedError(
      'MANIFEST_BLOB_UNKNOWN',
      `the manifest refers to ${missing.slice(0, 3).join(', ')}, not in the repository ${name}; push that first`,
      { detail: { digests: missing } },
    )
  }

  /** Has the manifest hold what it refers to; one that is served already stays as it is. */
  async function announce(
    digest: Digest,
    { record, bytes }: { readonly record: ManifestRecord; readonly bytes: Uint8Array },
  ): Promise<StoredRecord> {
    for (;;) {
      const served = await find(digest)
      if (served) return served
      const current = await read(digest)
      if (current && isServed(current)) continue
      const mine = { record: { ...record, nonce: randomUUID() }, bytes }
      const written = await swapManifest(objects, keys.manifest(name, digest), mine, current)
      if (written) return written
    }
  }

  /** Makes the manifest visible; false where someone has changed it since it was announced. */
  async function publish(digest: Digest, announced: StoredRecord): Promise<boolean> {
    const isPending = announced.record.state === 'pending'
    try {
      await requireReferences(announced.record)
    } catch (error) {
      if (isPending) await retract(digest, announced)
      throw error
    }
    const published = isPending
      ? await changeManifest(objects, name, digest, announced, 'live')
      : await find(digest)
    return published !== undefined
  }

  async function retract(digest: Digest, announced: StoredRecord): Promise<void> {
    const dead = await changeManifest(objects, name, digest, announced, 'dead')
    if (dead) await removeManifest(objects, name, digest, dead)
  }

  async function store(
    digest: Digest,
    manifest: { readonly record: ManifestRecord; readonly bytes: Uint8Array },
    { tag, replace }: PutManifestOptions,
  ): Promise<Digest | undefined> {
    const { mediaType, subject } = manifest.record
    const descriptor = { mediaType, digest, size: manifest.bytes.length }
    let moved: MovedTag | undefined
    try {
      for (;;) {
        if (subject) await enterReferrer(objects, name, digest, subject)
        const announced = await announce(digest, manifest)
        if (subject) await enterReferrer(objects, name, digest, subject)
        if (!(await publish(digest, announced))) continue
        if (tag === undefined) return undefined
        moved = await tags.move(tag, descriptor, { replace, before: moved?.before })
        // A delete in between took the manifest, perhaps the tag: then this push comes after it.
        if (!(await find(digest)) || (await tags.resolve(tag)) === undefined) continue
        return moved.before?.digest
      }
    } catch (error) {
      if (tag !== undefined && moved) await tags.putBack(tag, moved)
      throw error
    }
  }

  async function deleteByDigest(digest: Digest, reclaim: boolean): Promise<boolean> {
    for await (const { tag, digest: to } of tags.all()) {
      if (to === digest) tags.requireMutable(tag, digest)
    }
    for (;;) {
      const found = await read(digest)
      if (!found || !isServed(found)) return false
      const dead = await changeManifest(objects, name, digest, found, 'dead')
      if (!dead) continue
      await removeTags(digest, dead)
      await removeManifest(objects, name, digest, dead)
      onDeleted({ name, digest, record: dead.record, reclaim })
      return true
    }
  }

  /**
   * Removes the tags of a dead manifest. Whoever pushes it again meanwhile writes the manifest
   * first and then the tag: so the tag is read first and the manifest looked at after that.
   */
  async function removeTags(digest: Digest, dead: StoredRecord): Promise<void> {
    for await (const { tag, digest: to, etag } of tags.all()) {
      if (to !== digest) continue
      if ((await read(digest))?.etag !== dead.etag) return
      await tags.deleteVersion(tag, etag)
    }
  }

  return {
    async get(reference) {
      const digest = reference.kind === 'tag' ? await tags.resolve(reference.tag) : reference.digest
      const found = digest && (await find(digest))
      if (!digest || !found) return undefined
      const { record, bytes } = found
      return { mediaType: record.mediaType, digest, size: bytes.length, bytes }
    },
    async put({ mediaType, bytes }, options) {
      const { tag, replace, algorithm = 'sha256', partial } = options
      if (bytes.length > manifestLimitBytes) {
        throw new CodedError(
          'MANIFEST_TOO_LARGE',
          `the manifest has ${bytes.length} bytes, the limit is ${manifestLimitBytes}`,
        )
      }
      const described = describeManifest(mediaType, parseManifest(mediaType, bytes))
      const record = partial ? { ...described, partial } : described
      const digest = digestOf(bytes, algorithm)
      if (tag !== undefined) await tags.requireFree(tag, digest, { replace })
      await requireReferences(record)
      const replaced = await store(digest, { record, bytes }, options)
      const { subject } = record
      const facts = { ...(subject ? { subject } : {}), ...(replaced ? { replaced } : {}) }
      return { mediaType, digest, size: bytes.length, ...facts }
    },
    async delete(reference, { reclaim = false } = {}) {
      if (reference.kind === 'digest') return deleteByDigest(reference.digest, reclaim)
      const digest = await tags.resolve(reference.tag)
      const existed = await tags.delete(reference.tag)
      if (reclaim && existed && digest) onUntagged({ name, digest })
      return existed
    },
    async listReferrers(subject, { last, limit = Infinity }) {
      const folder = keys.referrers(name, subject)
      const after = last === undefined ? undefined : folder + last.replace(':', '-')
      const found = await objects.list(folder, { after, limit })
      const digests = found.flatMap((key) => digestOfKey(key) ?? [])
      const records = await Promise.all(digests.map(read))
      const referrers = records.flatMap((stored, at) => {
        const digest = digests[at]
        return digest && stored && isServed(stored) ? [referrerOf(digest, stored)] : []
      })
      return { referrers, next: found.length < limit ? undefined : digests.at(-1) }
    },
  }
}

function referrerOf(digest: Digest, { record, bytes }: StoredRecord): Referrer {
  const { mediaType, artifactType, annotations } = record
  return { mediaType, digest, size: bytes.length, artifactType, annotations }
}

async function absent(
  digests: readonly Digest[],
  find: (digest: Digest) => Promise<unknown>,
): Promise<Digest[]> {
  const found = await Promise.all(digests.map(find))
  return digests.filter((_, index) => found[index] === undefined)
}
