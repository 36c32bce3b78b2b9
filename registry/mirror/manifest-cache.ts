import { LRUCache } from 'lru-cache'
import { digestAlgorithm } from '../../core/digest.ts'
import type { Log } from '../../core/log.ts'
import { formatImageReference, type Reference } from '../../core/reference.ts'
import type { StoredManifest } from '../../core/registry.ts'
import type { StoredManifests } from '../manifests.ts'
import type { MirrorMetrics } from './metrics.ts'
import type { PullTimes } from './pull-times.ts'
import { createSingleFlight } from './single-flight.ts'
import type { UpstreamRepository } from './upstream.ts'

/** An upstream that could not be asked about a tag is not asked again for so long. */
const failurePauseMs = 30_000
/** So long the upstream's "there is none" holds: who has just pushed it there waits no longer. */
const absentMs = 10_000
/** References whose state is remembered. */
const remembered = 100_000

/** @see RFC 9111 §5.5: 110 is "Response is Stale". */
const staleWarning = '110 dvcr "Response is Stale"'

/** One repository of a mirror: what is held of it here, and where it comes from. */
export interface MirroredManifests {
  readonly name: string
  readonly held: StoredManifests
  readonly upstream: UpstreamRepository
}

export interface ManifestCache {
  /**
   * The manifest as the upstream has it now: one by digest as it is held; one by tag after the
   * upstream was asked, at most once in the time to live, or as held with a `warning` where that
   * cannot be asked. Callers at the same time share one request.
   */
  get(repository: MirroredManifests, reference: Reference): Promise<StoredManifest | undefined>
}

export interface ManifestCacheParts {
  readonly ttlMs: number
  readonly pulls: PullTimes
  readonly metrics: MirrorMetrics
  readonly log: Log
}

/** What the upstream last said of a reference, for a time. */
type Said = 'as-held' | 'absent' | 'nothing'

export function createManifestCache(parts: ManifestCacheParts): ManifestCache {
  const { ttlMs, pulls, metrics, log } = parts
  const said = new LRUCache<string, Said>({ max: remembered })
  const fly = createSingleFlight<StoredManifest | undefined>()

  function remember(id: string, what: Said, forMs: number): void {
    // To the cache a lifetime of 0 means forever.
    if (forMs > 0) said.set(id, what, { ttl: forMs })
    else said.delete(id)
  }

  async function notePull(name: string, { digest }: StoredManifest): Promise<void> {
    try {
      await pulls.note(name, digest)
    } catch (error) {
      log.warn({ err: error, name, digest }, 'cannot note when a mirrored manifest was pulled')
    }
  }

  function asStale(held: StoredManifest): StoredManifest {
    metrics.request('manifest', 'stale')
    return { ...held, warning: staleWarning }
  }

  /** The store may be full: what the client asked for it gets nevertheless. */
  async function keep(
    { name, held }: MirroredManifests,
    reference: Reference,
    manifest: StoredManifest,
  ): Promise<void> {
    const tag = reference.kind === 'tag' ? reference.tag : undefined
    const algorithm = digestAlgorithm(manifest.digest)
    try {
      await pulls.add(name, manifest.digest)
      await held.put(manifest, { tag, replace: true, algorithm, partial: true })
      metrics.request('manifest', 'miss')
    } catch (error) {
      metrics.request('manifest', 'passed')
      log.warn({ err: error, name, digest: manifest.digest }, 'cannot keep a mirrored manifest')
    }
  }

  /** A tag that is gone at the upstream goes here too, unless it was pushed before the mirror was. */
  async function dropTag(
    { name, held }: MirroredManifests,
    tag: string,
    { digest }: StoredManifest,
  ): Promise<void> {
    if (await pulls.has(name, digest)) await held.delete({ kind: 'tag', tag })
  }

  async function refreshTag(
    repository: MirroredManifests,
    tag: string,
    id: string,
  ): Promise<StoredManifest | undefined> {
    const reference = { kind: 'tag', tag } as const
    const held = await repository.held.get(reference)
    let found: StoredManifest | undefined
    try {
      found = await currentOf(repository, tag, held)
    } catch (error) {
      if (!held) throw error
      remember(id, 'nothing', failurePauseMs)
      log.warn({ err: error, reference: id }, 'a mirror serves what it holds')
      return asStale(held)
    }
    if (!found) {
      remember(id, 'absent', absentMs)
      if (held) await dropTag(repository, tag, held)
      return undefined
    }
    if (found.digest === held?.digest) metrics.request('manifest', 'hit')
    else await keep(repository, reference, found)
    remember(id, 'as-held', ttlMs)
    return found
  }

  async function fetchDigest(
    repository: MirroredManifests,
    reference: Reference,
    id: string,
  ): Promise<StoredManifest | undefined> {
    const found = await repository.upstream.getManifest(reference)
    if (found) await keep(repository, reference, found)
    else remember(id, 'absent', absentMs)
    return found
  }

  return {
    async get(repository, reference) {
      const { name } = repository
      const id = formatImageReference({ name, reference })
      const held = await repository.held.get(reference)
      if (held) await notePull(name, held)
      const known = reference.kind === 'digest' && held ? 'as-held' : said.get(id)
      if (held && known === 'as-held') {
        metrics.request('manifest', 'hit')
        return held
      }
      if (held && known === 'nothing') return asStale(held)
      if (known === 'absent') return undefined
      return fly(id, () =>
        reference.kind === 'tag'
          ? refreshTag(repository, reference.tag, id)
          : fetchDigest(repository, reference, id),
      )
    },
  }
}

/**
 * What the tag is at the upstream now; the same object as `held` where that has not changed. The
 * bytes are asked for by the digest that HEAD said, so that they belong together.
 */
async function currentOf(
  { held: local, upstream }: MirroredManifests,
  tag: string,
  held: StoredManifest | undefined,
): Promise<StoredManifest | undefined> {
  const digest = held ? await upstream.resolve(tag) : 'unsaid'
  if (digest === undefined || digest === held?.digest) return digest && held
  if (digest !== 'unsaid') {
    const pinned = { kind: 'digest', digest } as const
    const found = (await local.get(pinned)) ?? (await upstream.getManifest(pinned))
    if (found) return found
  }
  // Never asked for, unsaid, or moved again and its manifest removed since.
  return upstream.getManifest({ kind: 'tag', tag })
}
