import { digestOf, type Descriptor, type Digest, type DigestAlgorithm } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import { isNonDistributable, parseManifest, type Manifest } from '../core/manifest.ts'
import type { ObjectStore } from '../core/object-store.ts'
import {
  tagExists,
  type Manifests,
  type PutManifestOptions,
  type StoredManifest,
} from '../core/registry.ts'
import type { BlobIndex } from './blob-index.ts'
import { keys } from './keys.ts'
import { decodeJson, encodeJson, manifestRecord, tagRecord } from './records.ts'

/** Largest manifest taken; the spec asks for at least 4 MB. */
export const manifestLimitBytes = 4 * 1024 * 1024

/** `Manifests` that can also be addressed by sha512. */
export interface StoredManifests extends Manifests {
  put(
    manifest: { readonly mediaType: string; readonly bytes: Uint8Array },
    options: PutManifestOptions & { readonly algorithm?: DigestAlgorithm },
  ): Promise<Descriptor>
}

export interface ManifestParts {
  readonly objects: ObjectStore
  readonly index: BlobIndex
  /** One change of a repository's manifests at a time. */
  readonly serial: <T>(name: string, action: () => Promise<T>) => Promise<T>
}

/** The manifests and tags of one repository. */
export function createManifests(
  name: string,
  { objects, index, serial }: ManifestParts,
): StoredManifests {
  async function readTag(tag: string) {
    const key = keys.tag(name, tag)
    const stored = await objects.get(key)
    return stored && { ...decodeJson(tagRecord, stored.bytes, key), etag: stored.etag }
  }

  async function readByDigest(digest: Digest): Promise<StoredManifest | undefined> {
    const stored = await objects.get(keys.manifest(name, digest))
    if (!stored) return undefined
    const key = keys.manifestFacts(name, digest)
    const facts = await objects.get(key)
    if (!facts) return undefined
    const { mediaType } = decodeJson(manifestRecord, facts.bytes, key)
    return { mediaType, digest, size: stored.bytes.length, bytes: stored.bytes }
  }

  async function readByTag(tag: string): Promise<StoredManifest | undefined> {
    const found = await readTag(tag)
    if (!found) return undefined
    const { mediaType, digest } = found
    const stored = await objects.get(keys.manifest(name, digest))
    return stored && { mediaType, digest, size: stored.bytes.length, bytes: stored.bytes }
  }

  /** `subject` may come later; what is fetched from elsewhere is never here. */
  async function requireReferences({ config, layers = [], manifests = [] }: Manifest) {
    const blobs = (config ? [config, ...layers] : layers).filter(
      (layer) => !isNonDistributable(layer),
    )
    const missing = [
      ...(await absent(blobs, (digest) => index.find(name, digest))),
      ...(await absent(manifests, (digest) => objects.get(keys.manifest(name, digest)))),
    ]
    if (missing.length === 0) return
    throw new CodedError(
      'MANIFEST_BLOB_UNKNOWN',
      `the manifest refers to ${missing.slice(0, 3).join(', ')}, not in the repository ${name}; push that first`,
      { detail: { digests: missing } },
    )
  }

  async function storeManifest(
    { mediaType, bytes }: { readonly mediaType: string; readonly bytes: Uint8Array },
    digest: Digest,
    { config, layers = [], manifests = [], subject, artifactType, annotations }: Manifest,
  ): Promise<void> {
    const references = [...(config ? [config] : []), ...layers, ...manifests]
    const facts = encodeJson({
      mediaType,
      size: bytes.length,
      references: references.map(({ digest }) => digest),
      subject: subject?.digest,
      artifactType: artifactType ?? config?.mediaType,
      annotations,
    })
    await objects.put(keys.manifestFacts(name, digest), facts, 'always')
    await objects.put(keys.manifest(name, digest), bytes, 'ifAbsent')
  }

  async function requireFreeTag(tag: string, digest: Digest): Promise<void> {
    const current = await readTag(tag)
    if (!current || current.digest === digest) return
    throw tagExists(name, tag, current.digest)
  }

  async function moveTag(tag: string, to: Descriptor, replace: boolean): Promise<void> {
    for (;;) {
      if (!replace) await requireFreeTag(tag, to.digest)
      const current = await readTag(tag)
      if (current?.digest === to.digest && current.mediaType === to.mediaType) return
      const record = encodeJson({ ...to, at: new Date().toISOString() })
      const condition = current ? { ifMatch: current.etag } : 'ifAbsent'
      if ((await objects.put(keys.tag(name, tag), record, condition)) !== undefined) return
    }
  }

  async function deleteByDigest(digest: Digest): Promise<boolean> {
    const folder = keys.tags(name)
    for (const key of await objects.list(folder, {})) {
      const tag = await readTag(key.slice(folder.length))
      if (tag?.digest === digest) await objects.delete(key)
    }
    const existed = await objects.delete(keys.manifest(name, digest))
    await objects.delete(keys.manifestFacts(name, digest))
    return existed
  }

  return {
    get: (reference) =>
      reference.kind === 'tag' ? readByTag(reference.tag) : readByDigest(reference.digest),
    async put(manifest, { tag, replace, algorithm = 'sha256' }) {
      const { mediaType, bytes } = manifest
      if (bytes.length > manifestLimitBytes) {
        throw new CodedError(
          'MANIFEST_TOO_LARGE',
          `the manifest has ${bytes.length} bytes, the limit is ${manifestLimitBytes}`,
        )
      }
      const parsed = parseManifest(mediaType, bytes)
      const digest = digestOf(bytes, algorithm)
      const descriptor = { mediaType, digest, size: bytes.length }
      return serial(name, async () => {
        if (tag !== undefined && !replace) await requireFreeTag(tag, digest)
        await requireReferences(parsed)
        await storeManifest(manifest, digest, parsed)
        if (tag !== undefined) await moveTag(tag, descriptor, replace)
        return descriptor
      })
    },
    delete: (reference) =>
      serial(name, () =>
        reference.kind === 'tag'
          ? objects.delete(keys.tag(name, reference.tag))
          : deleteByDigest(reference.digest),
      ),
  }
}

async function absent(
  descriptors: readonly { readonly digest: Digest }[],
  find: (digest: Digest) => Promise<unknown>,
): Promise<Digest[]> {
  const digests = [...new Set(descriptors.map(({ digest }) => digest))]
  const found = await Promise.all(digests.map(find))
  return digests.filter((_, index) => found[index] === undefined)
}
