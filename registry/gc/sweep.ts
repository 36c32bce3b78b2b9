import type { Digest } from '../../core/digest.ts'
import type { Log } from '../../core/log.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { digestOfKey, keys, parseReferenceKey } from '../keys.ts'
import { linkRecord, pointerRecord } from '../records.ts'
import { listRepositoryNames } from '../repository-names.ts'
import { isServed, readManifest } from '../manifest-records.ts'
import { ruleFor, type RetentionRule } from '../retention.ts'
import { createTags } from '../tags.ts'
import { readVersioned } from '../versioned.ts'
import type { Collector } from './collector.ts'
import type { ReadReferences } from './references.ts'
import { createRest, type Rest } from './rests.ts'
import { findExpired, type RetainParts } from './retain.ts'

const hourMs = 60 * 60 * 1000
/** A reference without its link is a crashed push's after so long; a push never takes an hour for it. */
const orphanReferenceMs = 24 * hourMs
/** Of the references, one part is looked at in each sweep. */
const referenceParts = 24
const shards = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** What a sweep found; removed is what it offered to the collector, bytes are those of the blobs. */
export interface SweepReport {
  readonly dryRun: boolean
  readonly startedAt: string
  finishedAt: string
  repositories: number
  /** Left alone because they could not be read; `dvcr registry fsck` says why. */
  failedRepositories: number
  links: number
  blobs: number
  /** Links that no manifest refers to and whose grace is over, with the bytes they make readable. */
  unreferencedLinks: number
  unreferencedBytes: number
  /** Blobs that no repository links any more: their data goes. */
  unlinkedBlobs: number
  unlinkedBytes: number
  orphanReferences: number
  danglingTags: number
  unfinishedManifests: number
  /** By retention rules. */
  expiredTags: number
  expiredManifests: number
}

export interface SweepParts {
  readonly log: Log
  readonly retention: readonly RetentionRule[]
  readonly isImmutable: RetainParts['isImmutable']
  readonly objects: ObjectStore
  readonly readReferences: ReadReferences
  readonly collector: Pick<Collector, 'offerLink' | 'offerManifest' | 'offerPointer'>
  readonly orphanGraceMs: number
}

export interface SweepOptions {
  /** Only reports. */
  readonly dryRun: boolean
  readonly signal: AbortSignal
}

/** One sweep at work. */
interface Pass extends SweepOptions {
  readonly rest: Rest
}

/**
 * Goes through the whole store by listings, reads only what a listing cannot tell, and offers what
 * nobody refers to to the collector, which looks again before it removes anything.
 */
export async function sweep(parts: SweepParts, options: SweepOptions): Promise<SweepReport> {
  const pass: Pass = { ...options, rest: createRest() }
  const now = new Date().toISOString()
  const report: SweepReport = {
    dryRun: options.dryRun,
    startedAt: now,
    finishedAt: now,
    repositories: 0,
    failedRepositories: 0,
    links: 0,
    blobs: 0,
    unreferencedLinks: 0,
    unreferencedBytes: 0,
    unlinkedBlobs: 0,
    unlinkedBytes: 0,
    orphanReferences: 0,
    danglingTags: 0,
    unfinishedManifests: 0,
    expiredTags: 0,
    expiredManifests: 0,
  }
  for (const name of await listRepositoryNames(parts.objects, { anything: true })) {
    options.signal.throwIfAborted()
    report.repositories++
    try {
      await sweepRepository(parts, pass, report, name)
    } catch (error) {
      options.signal.throwIfAborted()
      // What its manifests refer to is not known: nothing of it is collected, the others are.
      report.failedRepositories++
      parts.log.warn({ repository: name, err: error }, 'cannot collect garbage of a repository')
    }
  }
  const part = Math.floor(Date.now() / hourMs) % referenceParts
  for (const algorithm of ['sha256', 'sha512']) {
    for (const [index, shard] of shards.entries()) {
      options.signal.throwIfAborted()
      const readsAll = index % referenceParts === part
      await sweepBlobs(parts, pass, report, { algorithm, shard, readsAll })
    }
  }
  report.finishedAt = new Date().toISOString()
  return report
}

async function sweepRepository(
  parts: SweepParts,
  pass: Pass,
  report: SweepReport,
  name: string,
): Promise<void> {
  const { objects, readReferences, collector, orphanGraceMs } = parts
  const { dryRun, rest } = pass
  const references = await readReferences(name)
  const { blobs, unfinished } = references
  report.unfinishedManifests += unfinished.length
  if (!dryRun) for (const digest of unfinished) collector.offerManifest(name, digest)
  for (const key of await objects.list(keys.links(name), {})) {
    const digest = digestOfKey(key)
    if (!digest) continue
    await rest()
    report.links++
    if (blobs.has(digest)) continue
    const found = await readVersioned(objects, linkRecord, key)
    if (!found) continue
    const { state, at, size } = found.record
    if (state === 'live' && Date.parse(at) + orphanGraceMs > Date.now()) continue
    report.unreferencedLinks++
    report.unreferencedBytes += size
    if (!dryRun) collector.offerLink(name, digest)
  }
  await sweepTags(objects, name, dryRun, report)
  const rule = ruleFor(parts.retention, name)
  if (rule) await retain(parts, pass, report, { name, rule, references })
}

async function retain(
  { objects, collector, isImmutable }: SweepParts,
  { dryRun }: SweepOptions,
  report: SweepReport,
  repository: Parameters<typeof findExpired>[1],
): Promise<void> {
  const { tags, manifests } = await findExpired({ objects, isImmutable }, repository)
  report.expiredTags += tags.length
  report.expiredManifests += manifests.length
  if (dryRun) return
  const stored = createTags(repository.name, objects)
  for (const { tag, etag } of tags) await stored.deleteVersion(tag, etag)
  for (const digest of manifests) collector.offerManifest(repository.name, digest)
}

/** A push that was killed may have moved a tag to a manifest that was then collected. */
async function sweepTags(
  objects: ObjectStore,
  name: string,
  dryRun: boolean,
  report: SweepReport,
): Promise<void> {
  const tags = createTags(name, objects)
  const served = new Map<Digest, boolean>()
  for await (const { tag, digest, at, etag } of tags.all()) {
    if (!served.has(digest)) {
      const stored = await readManifest(objects, name, digest)
      served.set(digest, stored !== undefined && isServed(stored))
    }
    if (served.get(digest) === true || at + hourMs > Date.now()) continue
    report.danglingTags++
    if (!dryRun) await tags.deleteVersion(tag, etag)
  }
}

/** Blobs of one shard: those without a reference, found by comparing two listings. */
async function sweepBlobs(
  { objects, collector }: SweepParts,
  { dryRun, rest }: Pass,
  report: SweepReport,
  {
    algorithm,
    shard,
    readsAll,
  }: { readonly algorithm: string; readonly shard: string; readonly readsAll: boolean },
): Promise<void> {
  const pointers = await objects.list(keys.pointers(algorithm, shard), {})
  const references = await objects.list(keys.referenceShard(algorithm, shard), {})
  const referenced = new Set<Digest>()
  for (const key of references) {
    await rest()
    const parsed = parseReferenceKey(key)
    if (!parsed) continue
    if (readsAll && (await isOrphan(objects, key, parsed))) {
      report.orphanReferences++
      if (!dryRun) await objects.delete(key)
    } else referenced.add(parsed.digest)
  }
  report.blobs += pointers.length
  for (const key of pointers) {
    await rest()
    const digest = digestOfKey(key)
    if (!digest || referenced.has(digest)) continue
    const found = await readVersioned(objects, pointerRecord, key)
    if (!found) continue
    report.unlinkedBlobs++
    report.unlinkedBytes += found.record.size
    if (!dryRun) collector.offerPointer(digest)
  }
}

async function isOrphan(
  objects: ObjectStore,
  key: string,
  {
    digest,
    name,
    nonce,
  }: { readonly digest: Digest; readonly name: string; readonly nonce: string },
): Promise<boolean> {
  const link = await readVersioned(objects, linkRecord, keys.link(name, digest))
  if (link?.record.nonce === nonce && link.record.state !== 'dead') return false
  const reference = await objects.get(key)
  const at = reference && Date.parse(Buffer.from(reference.bytes).toString())
  return at !== undefined && at + orphanReferenceMs < Date.now()
}
