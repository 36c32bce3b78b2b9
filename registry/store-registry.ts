import type { Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import { parseName } from '../core/reference.ts'
import type { Blobs, ByteRange, Page, Registry, Repository } from '../core/registry.ts'
import { createBlobWriter, type BlobWriterParts } from './uploads/blob-writer.ts'
import { forgetFileBlob } from './uploads/file-blob.ts'
import type { StoredBytes } from './blob-index.ts'
import { keys } from './keys.ts'
import { createManifests, type ManifestParts, type StoredManifests } from './manifests.ts'
import { mountBlob, type MountOptions } from './mount.ts'
import { redirectOf, type Redirectable, type RedirectPolicy } from './redirect.ts'
import { listRepositoryNames } from './repository-names.ts'
import { createTags } from './tags.ts'

/** The `Registry` of this process's store, with what only HTTP clients of it ask for. */
export interface StoreRegistry extends Registry {
  repository(name: string): Repository & {
    readonly blobs: StoredBlobs
    readonly manifests: StoredManifests
  }
  /** Throws NAME_INVALID. @see mountBlob */
  mountBlob(digest: Digest, options: MountOptions): Promise<boolean>
}

/** `Blobs` that are looked up once and then read. */
export interface StoredBlobs extends Blobs {
  find(digest: Digest): Promise<FoundBlob | undefined>
}

/** A blob that the repository may read. */
export interface FoundBlob {
  readonly size: number
  /** All of it without `range`; chunks are only valid until the next one is asked for. */
  read(range: ByteRange | undefined, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** Where a client that asked `hostname` gets all of it from; `undefined`: only here. */
  redirect(hostname: string): Promise<string | undefined>
}

export type StoreRegistryParts = BlobWriterParts &
  Omit<ManifestParts, 'tags'> & {
    readonly isImmutable: (repository: string, tag: string) => boolean
    readonly redirect: RedirectPolicy
  }

export function createStoreRegistry(parts: StoreRegistryParts): StoreRegistry {
  const { objects, index } = parts

  async function holdsAnything(name: string): Promise<boolean> {
    for (const folder of [keys.tags(name), keys.manifests(name), keys.links(name)]) {
      if ((await objects.list(folder, { limit: 1 })).length > 0) return true
    }
    return false
  }

  async function listTags(name: string, { last, limit }: Page): Promise<string[]> {
    const folder = keys.tags(name)
    const after = last === undefined ? undefined : folder + last
    const found = await objects.list(folder, { after, limit })
    if (found.length === 0 && !(await holdsAnything(name))) {
      throw new CodedError('NAME_UNKNOWN', `no repository ${name}`)
    }
    return found.map((key) => key.slice(folder.length))
  }

  return {
    repository(text) {
      const name = parseName(text)
      return {
        name,
        blobs: createBlobs(name, parts),
        manifests: createManifests(name, {
          ...parts,
          tags: createTags(name, objects, (tag) => parts.isImmutable(name, tag)),
        }),
        listTags: (page) => listTags(name, page),
      }
    },
    listRepositories: (page) => listRepositoryNames(objects, page),
    mountBlob: async (digest, { from, to, mayPull }) =>
      mountBlob({ objects, index }, digest, {
        from: from === undefined ? undefined : parseName(from),
        to: parseName(to),
        mayPull,
      }),
  }
}

function createBlobs(name: string, parts: StoreRegistryParts): StoredBlobs {
  const { index, data, redirect } = parts

  async function find(digest: Digest): Promise<FoundBlob | undefined> {
    const stat = await index.stat(name, digest)
    if (!stat) return undefined
    const { size } = stat
    const presign: Redirectable['presign'] = async (options) => {
      const found = await index.locate(digest)
      return found?.offset === 0 ? data.redirect(found, options) : undefined
    }
    return {
      size,
      read: (range, signal) => readBlob({ index, data }, { name, digest, size, range, signal }),
      redirect: (hostname) => redirectOf({ size, presign }, redirect, hostname),
    }
  }

  return {
    find,
    async stat(digest) {
      const found = await index.stat(name, digest)
      return found && { size: found.size }
    },
    async *read(digest, { range, signal }) {
      const found = await find(digest)
      if (!found) throw blobUnknown(name, digest)
      yield* found.read(range, signal)
    },
    async forget(resume) {
      if (parts.files) await forgetFileBlob(name, resume, parts)
    },
    create: (options) => createBlobWriter(name, options, parts),
    delete: (digest) => index.unlink(name, digest),
  }
}

/** The refusal of a blob that the repository may not read. */
export function blobUnknown(name: string, digest: Digest): CodedError {
  return new CodedError('BLOB_UNKNOWN', `no blob ${digest} in the repository ${name}`)
}

interface Reading {
  readonly name: string
  readonly digest: Digest
  readonly size: number
  readonly range: ByteRange | undefined
  readonly signal: AbortSignal
}

async function* readBlob(
  { index, data }: Pick<StoreRegistryParts, 'index' | 'data'>,
  { name, digest, size, range = { start: 0, end: size }, signal }: Reading,
): AsyncGenerator<Uint8Array, void> {
  if (range.start < 0 || range.start > range.end || range.end > size) {
    throw new CodedError(
      'RANGE_INVALID',
      `bytes [${range.start}, ${range.end}) are not in the blob ${digest} of ${size} bytes`,
    )
  }
  const open = (found: StoredBytes): AsyncIterable<Uint8Array> => {
    const { start, end } = range
    return data.read(found, { start: found.offset + start, end: found.offset + end }, signal)
  }
  const found = await index.locate(digest)
  if (!found) throw blobUnknown(name, digest)
  let taken = false
  try {
    for await (const chunk of open(found)) {
      taken = true
      yield chunk
    }
    return
  } catch (error) {
    // Removed and pushed again since its place was last looked up, by any process.
    const moved = taken || signal.aborted ? undefined : await index.locate(digest, { fresh: true })
    if (!moved || moved.data === found.data) throw error
    yield* open(moved)
  }
}
