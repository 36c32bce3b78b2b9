import { z } from 'zod'
import { digestAlgorithm, type Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import { isManifestIndex } from '../../core/manifest.ts'
import type { Bytes } from '../../core/streams.ts'
import type { StoreRegistry } from '../store-registry.ts'
import { archivedRepository, invalidArchive, leftOut, type ArchivedRepository } from './archive.ts'
import { readArchive, type ImportBlobParts, type ReadArchive } from './import-archive.ts'
import { whyNot } from './see.ts'
import { createSpool, type Spool, type SpooledBytes } from './spool.ts'
import { createTasks } from './tasks.ts'

export const importReport = z.object({
  repositories: z.int(),
  /** In the archive, and those of them that the store did not have. */
  blobs: z.int(),
  storedBlobs: z.int(),
  storedBytes: z.int(),
  manifests: z.int(),
  tags: z.int(),
  /** What is not in the store now, because it or what it needs is damaged or missing. */
  leftOut: z.array(leftOut),
})
export type ImportReport = z.output<typeof importReport>

/** `progress`, for each repository, once the whole archive is read; `report`, at the end. */
export const importEvent = z.union([
  z.object({ progress: z.object({ repositories: z.int(), of: z.int() }) }),
  z.object({ report: importReport }),
])
export type ImportEvent = z.output<typeof importEvent>

export interface ImportParts extends ImportBlobParts {
  readonly registry: StoreRegistry
  /** Gets a file without a name with all manifests. */
  readonly scratchFolder: string
}

export interface ImportOptions {
  /** Move tags that point elsewhere. */
  readonly replace: boolean
  readonly signal: AbortSignal
}

const atOnce = 8

/**
 * Adds all that an archive holds to a store that may hold anything and be at work. May be repeated:
 * what is there is not stored again. Every blob and manifest is verified. Throws, having tagged
 * nothing, ARCHIVE_INVALID where the archive is not whole, and TAG_EXISTS where tags point elsewhere.
 */
export async function* importArchive(
  parts: ImportParts,
  bytes: Bytes,
  { replace, signal }: ImportOptions,
): AsyncGenerator<ImportEvent, void> {
  await using spool = await createSpool(parts.scratchFolder)
  const archive = await readArchive(parts, bytes, { spool, signal })
  if (!replace) await requireTags(parts.registry, archive, spool)
  const { index, storedBlobs, storedBytes, repositories: all } = archive
  const report: ImportReport = {
    repositories: 0,
    blobs: index.blobs,
    storedBlobs,
    storedBytes,
    manifests: 0,
    tags: 0,
    leftOut: [...index.leftOut],
  }
  yield { progress: { repositories: 0, of: all.length } }
  for (const where of all) {
    signal.throwIfAborted()
    const repository = await readRepository(spool, where)
    await restoreRepository(parts, repository, { archive, spool, report, replace })
    report.repositories++
    yield { progress: { repositories: report.repositories, of: all.length } }
  }
  yield { report }
}

async function readRepository(spool: Spool, where: SpooledBytes): Promise<ArchivedRepository> {
  try {
    return archivedRepository.parse(JSON.parse(Buffer.from(await spool.get(where)).toString()))
  } catch (error) {
    throw invalidArchive(`the description of a repository is damaged: ${whyNot(error)}`, error)
  }
}

/** Throws TAG_EXISTS naming some of the tags that point elsewhere. */
async function requireTags(
  registry: StoreRegistry,
  { repositories }: ReadArchive,
  spool: Spool,
): Promise<void> {
  const taken: string[] = []
  for (const where of repositories) {
    const { name, tags } = await readRepository(spool, where)
    const { manifests } = registry.repository(name)
    for (const { tag, digest } of tags) {
      const current = await manifests.get({ kind: 'tag', tag })
      if (current && current.digest !== digest) taken.push(`${name}:${tag}`)
    }
  }
  if (taken.length === 0) return
  const some = taken.slice(0, 5).join(', ')
  throw new CodedError(
    'TAG_EXISTS',
    `${taken.length} tags of the archive point elsewhere in this registry (${some}${taken.length > 5 ? ', …' : ''}); nothing was tagged; move them with --replace`,
    { detail: { tags: taken.slice(0, 1000) } },
  )
}

interface Restoring {
  readonly archive: ReadArchive
  readonly spool: Spool
  /** Gets what was done and what was not. */
  readonly report: ImportReport
  readonly replace: boolean
}

/** Links, then manifests, those that others need first, then tags. */
async function restoreRepository(
  { registry, index }: ImportParts,
  { name, blobs, manifests, tags }: ArchivedRepository,
  { archive, spool, report, replace }: Restoring,
): Promise<void> {
  const { manifests: stored } = registry.repository(name)
  const leaveOut = (what: string, why: string): void =>
    void report.leftOut.push({ repository: name, what, why })
  const whyMissing = (digest: Digest): string =>
    archive.damaged.has(digest) ? 'it is damaged in the archive' : 'it is not in the archive'

  await using linking = createTasks(atOnce)
  for (const digest of blobs) {
    await linking.start(async () => {
      if (!(await index.link(name, digest))) leaveOut(digest, whyMissing(digest))
    })
  }
  await linking.done()

  type Manifest = (typeof manifests)[number]
  /** False where what it refers to is not there. */
  async function put({ digest, mediaType, partial }: Manifest, tag?: string): Promise<boolean> {
    if (tag === undefined && (await stored.get({ kind: 'digest', digest }))) {
      report.manifests++
      return true
    }
    const where = archive.manifests.get(digest)
    if (!where) {
      leaveOut(digest, whyMissing(digest))
      return true
    }
    const options = { replace, tag, algorithm: digestAlgorithm(digest), partial: partial ?? false }
    try {
      await stored.put({ mediaType, bytes: await spool.get(where) }, options)
      if (tag === undefined) report.manifests++
      else report.tags++
      return true
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      if (error.code === 'MANIFEST_BLOB_UNKNOWN') return false
      if (!refusals.has(error.code)) throw error
      leaveOut(tag ?? digest, error.message)
      return true
    }
  }

  /** Again and again while it helps: an index may name another index. */
  async function putAll(all: readonly Manifest[]): Promise<void> {
    const waiting: Manifest[] = []
    await using putting = createTasks(atOnce)
    for (const manifest of all) {
      await putting.start(async () => void ((await put(manifest)) || waiting.push(manifest)))
    }
    await putting.done()
    if (waiting.length > 0 && waiting.length < all.length) return await putAll(waiting)
    for (const { digest } of waiting) leaveOut(digest, 'what it refers to is missing or damaged')
  }

  await putAll(manifests.filter(({ mediaType }) => !isManifestIndex(mediaType)))
  await putAll(manifests.filter(({ mediaType }) => isManifestIndex(mediaType)))
  const known = new Map(manifests.map((manifest) => [manifest.digest, manifest]))
  for (const { tag, digest } of tags) {
    const current = await stored.get({ kind: 'tag', tag })
    if (current?.digest === digest) {
      report.tags++
      continue
    }
    const manifest = known.get(digest)
    if (!manifest || !(await put(manifest, tag))) leaveOut(tag, `its manifest ${digest} is missing`)
  }
}

/** What one manifest or tag is refused for; the others may still do. */
const refusals: ReadonlySet<string> = new Set(['MANIFEST_INVALID', 'TAG_EXISTS', 'TAG_IMMUTABLE'])
