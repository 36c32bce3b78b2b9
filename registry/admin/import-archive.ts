import { digestAlgorithm, digestOf, type Digest } from '../../core/digest.ts'
import type { Bytes } from '../../core/streams.ts'
import type { z } from 'zod'
import type { BlobIndex } from '../blob-index.ts'
import { manifestLimitBytes } from '../manifests.ts'
import { requireRoom } from '../uploads/room.ts'
import type { SessionParts, Sessions } from '../uploads/sessions.ts'
import { createStreamBlob } from '../uploads/stream-blob.ts'
import {
  archiveFormat,
  archiveIndex,
  archiveStart,
  entryNames,
  invalidArchive,
  parseEntryName,
  refuseTar,
  type ArchiveIndex,
} from './archive.ts'
import { whyNot } from './see.ts'
import type { Spool, SpooledBytes } from './spool.ts'
import { readTar, type TarEntry } from '../../core/tar-reader.ts'
import { createTasks } from './tasks.ts'

export interface ImportBlobParts extends Pick<SessionParts, 'data' | 'reservations'> {
  readonly sessions: Sessions
  readonly index: Pick<BlobIndex, 'link' | 'locate'>
  /** Ms that a blob without a manifest is kept. */
  readonly orphanGraceMs: number
}

/** An archive whose blobs are in the store and whose other entries are in the spool. */
export interface ReadArchive {
  readonly index: ArchiveIndex
  /** In the order of the archive. */
  readonly repositories: readonly SpooledBytes[]
  readonly manifests: ReadonlyMap<Digest, SpooledBytes>
  /** Blobs and manifests whose bytes were others. */
  readonly damaged: ReadonlySet<Digest>
  /** What the store did not have. */
  readonly storedBlobs: number
  readonly storedBytes: number
}

/** Blobs up to here are read at once, and several of them stored at a time. */
const smallBytes = 256 * 1024
const smallAtOnce = 8
/** The description of a repository: some 75 bytes for each of its blobs, manifests and tags. */
const jsonLimitBytes = 512 * 1024 * 1024

/**
 * Reads an archive to its end: stores its blobs, each in one of the repositories that have it, and
 * puts aside the rest. Nobody refers to the blobs yet; where it goes no further they are garbage.
 * Throws ARCHIVE_INVALID where the archive is cut off or none of ours.
 */
export async function readArchive(
  parts: ImportBlobParts,
  bytes: Bytes,
  { spool, signal }: { readonly spool: Spool; readonly signal: AbortSignal },
): Promise<ReadArchive> {
  const repositories: SpooledBytes[] = []
  const manifests = new Map<Digest, SpooledBytes>()
  const damaged = new Set<Digest>()
  const held: { readonly name: string; readonly digest: Digest }[] = []
  const counts = { storedBlobs: 0, storedBytes: 0 }
  await using tasks = createTasks(smallAtOnce)
  let hasBegun = false
  let repository: string | undefined
  let index: ArchiveIndex | undefined
  let renewedAt = Date.now()

  async function storeBlob(name: string, digest: Digest, size: number, body: Bytes): Promise<void> {
    if (!(await isStored(name, digest)) && !(await store(name, digest, size, body))) {
      damaged.add(digest)
      return
    }
    held.push({ name, digest })
  }

  /** A push that is still to come for a blob that is there keeps it too. */
  async function isStored(name: string, digest: Digest): Promise<boolean> {
    const isLinked = await parts.index.link(name, digest)
    return isLinked && (await parts.index.locate(digest, { fresh: true })) !== undefined
  }

  /** False where the bytes are not the blob. */
  async function store(name: string, digest: Digest, size: number, body: Bytes): Promise<boolean> {
    await requireRoom(parts.data, size)
    const options = { signal, expectedBytes: size, algorithm: digestAlgorithm(digest) }
    const blob = await createStreamBlob(name, options, parts)
    try {
      for await (const chunk of body) await blob.write(chunk)
      const written = await blob.finish()
      if (written.digest !== digest) return false
      await blob.commit()
      counts.storedBlobs++
      counts.storedBytes += size
      return true
    } finally {
      // Does nothing once it is committed.
      await blob.abort()
    }
  }

  /** What was stored first must still be there when its manifest comes, days later. */
  async function renew(): Promise<void> {
    if (Date.now() < renewedAt + parts.orphanGraceMs / 4) return
    renewedAt = Date.now()
    for (const { name, digest } of held) await parts.index.link(name, digest)
  }

  async function takeBlob(digest: Digest, { size, contents }: TarEntry): Promise<void> {
    const name = repository
    if (name === undefined) throw invalidArchive(`the blob ${digest} belongs to no repository`)
    if (size > smallBytes) return storeBlob(name, digest, size, contents)
    const all = await readAll(contents)
    await tasks.start(() => storeBlob(name, digest, size, once(all)))
  }

  async function takeManifest(digest: Digest, entry: TarEntry): Promise<void> {
    const all = await readSmall(entry, manifestLimitBytes)
    if (digestOf(all, digestAlgorithm(digest)) === digest) {
      manifests.set(digest, await spool.add(all))
    } else damaged.add(digest)
  }

  async function take(tarEntry: TarEntry): Promise<void> {
    const entry = parseEntryName(tarEntry.name)
    if (!hasBegun) {
      if (entry?.kind !== 'start') {
        throw invalidArchive(`it begins with ${tarEntry.name}, not with ${entryNames.start}`)
      }
      await checkStart(tarEntry)
      hasBegun = true
      return
    }
    switch (entry?.kind) {
      case 'folder':
        repository = entry.name
        return
      case 'blob':
        return takeBlob(entry.digest, tarEntry)
      case 'manifest':
        return takeManifest(entry.digest, tarEntry)
      case 'repository':
        repositories.push(await spool.add(await readSmall(tarEntry, jsonLimitBytes)))
        return
      case 'index':
        index = await readJson(archiveIndex, tarEntry)
        return
      case 'start':
      case undefined:
        throw invalidArchive(`an entry ${tarEntry.name} has no business there`)
    }
  }

  for await (const entry of readTar(bytes, refuseTar)) {
    signal.throwIfAborted()
    await take(entry)
    await renew()
  }
  await tasks.done()
  if (!index) {
    const stored = `${counts.storedBlobs} blobs of it were stored`
    throw invalidArchive(`it ends before its index: it is cut off; ${stored}, nothing was tagged`)
  }
  return { index, repositories, manifests, damaged, ...counts }
}

async function checkStart(entry: TarEntry): Promise<void> {
  const { format } = await readJson(archiveStart, entry)
  if (format === archiveFormat) return
  throw invalidArchive(`its format is ${format}, this version knows ${archiveFormat}`)
}

async function readJson<T>(schema: z.ZodType<T>, entry: TarEntry): Promise<T> {
  const bytes = await readSmall(entry, jsonLimitBytes)
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString()))
  } catch (error) {
    throw invalidArchive(`${entry.name} is damaged: ${whyNot(error)}`, error)
  }
}

async function readSmall({ name, size, contents }: TarEntry, limit: number): Promise<Uint8Array> {
  if (size <= limit) return readAll(contents)
  throw invalidArchive(`${name} has ${size} bytes, more than ${limit}`)
}

async function readAll(contents: Bytes): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of contents) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield bytes
}
