import { digestAlgorithm, digestOf, type Digest } from '../../core/digest.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { digestOfKey, keys } from '../keys.ts'
import { isServed, readManifest, type StoredRecord } from '../manifest-records.ts'
import { tagRecord } from '../records.ts'
import { listRepositoryNames } from '../repository-names.ts'
import { archiveFormat, entryNames, type ArchivedRepository } from './archive.ts'
import {
  createArchiveWriter,
  type ArchiveWriter,
  type ArchiveWriterParts,
} from './archive-writer.ts'
import { see, whyNot } from './see.ts'
import { tarEnd, tarHeader } from './tar-writer.ts'
import { readLinks } from './usage.ts'

export interface ExportParts extends ArchiveWriterParts {
  readonly objects: ObjectStore
}

/** Looks so many times for tags that were moved while their repository was read. */
const mostRounds = 3

/**
 * The whole store as one tar stream while it is at work: `registry/admin/archive.ts`. What is
 * removed meanwhile is left out with all that needs it; what is damaged too, and the index names
 * it. A chunk is valid until the next one is asked for. Memory grows with the number of blobs,
 * about 200 bytes each.
 */
export async function* exportStore(
  parts: ExportParts,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  const createdAt = new Date()
  const mtimeS = Math.floor(createdAt.getTime() / 1000)
  const writer = createArchiveWriter(parts, { mtimeS, signal })
  const { index } = writer
  yield* writer.json(entryNames.start, { format: archiveFormat, createdAt })
  for (const name of await listRepositoryNames(parts.objects, { anything: true })) {
    yield tarHeader(entryNames.folder(name), 0, mtimeS)
    const repository = yield* exportRepository(parts.objects, writer, name)
    yield* writer.json(entryNames.repository(name), repository)
    index.repositories++
    index.tags += repository.tags.length
  }
  yield* writer.json(entryNames.index, index)
  yield tarEnd
}

interface Included {
  readonly facts: { readonly mediaType: string; readonly partial?: true }
  readonly children: readonly Digest[]
}

/** Everything of one repository; what of it is in the archive, with all that it needs. */
async function* exportRepository(
  objects: ObjectStore,
  writer: ArchiveWriter,
  name: string,
): AsyncGenerator<Uint8Array, ArchivedRepository> {
  const blobs = new Set<Digest>()
  const included = new Map<Digest, Included>()
  const refused = new Map<Digest, string>()
  const damagedTags = new Map<string, string>()

  async function* manifest(
    digest: Digest,
    { record, bytes }: StoredRecord,
  ): AsyncGenerator<Uint8Array, void> {
    const { partial = false, mediaType, manifests: children } = record
    for (const blob of new Set([...record.blobs, ...record.kept])) {
      if (yield* writer.blob(name, blob)) blobs.add(blob)
      else if (record.blobs.includes(blob) && !partial) {
        refused.set(digest, `its blob ${blob} is missing or damaged`)
        return
      }
    }
    yield* writer.manifest(digest, bytes)
    included.set(digest, { facts: { mediaType, ...(partial ? { partial } : {}) }, children })
  }

  /** As it is served; a damaged one is refused. */
  async function read(digest: Digest): Promise<StoredRecord | undefined> {
    try {
      const stored = await readManifest(objects, name, digest)
      if (!stored || !isServed(stored)) return undefined
      if (digestOf(stored.bytes, digestAlgorithm(digest)) === digest) return stored
      refused.set(digest, 'its bytes have another digest')
    } catch (error) {
      refused.set(digest, whyNot(error))
    }
    return undefined
  }

  /** An index without one of its manifests is of no use, nor one without that index. */
  function refuseParents(): void {
    for (const [digest, { children, facts }] of included) {
      const missing = facts.partial ? undefined : children.find((child) => !included.has(child))
      if (missing === undefined) continue
      included.delete(digest)
      refused.set(digest, `its manifest ${missing} is missing or damaged`)
      refuseParents()
      return
    }
  }

  async function readTags(): Promise<ArchivedRepository['tags']> {
    const folder = keys.tags(name)
    const found: ArchivedRepository['tags'] = []
    for (const key of await objects.list(folder, {})) {
      const { record, damage } = await see({ objects }, tagRecord, key)
      const tag = key.slice(folder.length)
      if (damage) damagedTags.set(tag, damage.problem)
      if (record) found.push({ tag, digest: record.digest })
    }
    return found
  }

  let tags = await readTags()
  for (let round = 0; round < mostRounds; round++) {
    const found = await objects.list(keys.manifests(name), {})
    const digests = found.flatMap((key) => digestOfKey(key) ?? [])
    for (const some of inBatches(digests.filter((it) => !included.has(it) && !refused.has(it)))) {
      const stored = await Promise.all(some.map(read))
      await writer.prepare(name, new Set(stored.flatMap((it) => it?.record.blobs ?? [])))
      for (const [at, digest] of some.entries()) {
        const one = stored[at]
        if (one) yield* manifest(digest, one)
      }
    }
    tags = await readTags()
    if (tags.every(({ digest }) => included.has(digest) || refused.has(digest))) break
  }
  refuseParents()
  const rest: Digest[] = []
  for await (const { digest } of readLinks(objects, name)) if (!blobs.has(digest)) rest.push(digest)
  for (const some of inBatches(rest)) {
    await writer.prepare(name, some)
    for (const digest of some) if (yield* writer.blob(name, digest)) blobs.add(digest)
  }
  for (const [digest, why] of refused) {
    // What was deleted meanwhile nobody misses.
    const isThere = await objects.get(keys.manifest(name, digest))
    if (isThere) writer.leaveOut(name, digest, why)
  }
  for (const [tag, why] of damagedTags) writer.leaveOut(name, tag, why)
  return {
    name,
    blobs: [...blobs].sort(),
    manifests: [...included].map(([digest, { facts }]) => ({ digest, ...facts })),
    tags: tags.filter(({ digest }) => included.has(digest)),
  }
}

/** Read at a time. */
const batchSize = 16

function* inBatches<T>(all: readonly T[]): Generator<readonly T[], void> {
  for (let at = 0; at < all.length; at += batchSize) yield all.slice(at, at + batchSize)
}
