import type { Digest } from '../../core/digest.ts'
import { toCodedError } from '../../core/errors.ts'
import { parseManifest } from '../../core/manifest.ts'
import type { Log } from '../../core/log.ts'
import type { Registry } from '../../core/registry.ts'
import type { PulledManifest, PullTimes } from './pull-times.ts'

export interface EvictionParts {
  /** The store itself. */
  readonly local: Registry
  readonly pulls: PullTimes
  readonly log: Log
}

/**
 * Removes the manifests that a mirror keeps below `prefix` and nobody has pulled since `before`
 * (ms of `Date.now()`), with their tags; the store then reclaims their blobs. Kept are those that a
 * manifest in use refers to. Answers how many it removed.
 */
export async function evictUnused(
  prefix: string,
  before: number,
  { local, pulls, log }: EvictionParts,
): Promise<number> {
  let evicted = 0
  for await (const pulled of pulls.list(prefix)) {
    const unused = pulled.filter(({ pulledAt }) => pulledAt < before)
    if (unused.length === 0) continue
    const used = pulled.filter(({ pulledAt }) => pulledAt >= before)
    const referred = await referencesOf(used, local)
    for (const { name, digest } of unused) {
      if (referred.has(digest)) continue
      const { manifests } = local.repository(name)
      try {
        await manifests.delete({ kind: 'digest', digest }, { reclaim: true })
        await pulls.forget(name, digest)
        evicted += 1
      } catch (error) {
        // One that cannot be removed must not keep the others.
        log.warn({ name, digest, err: toCodedError(error) }, 'cannot evict a mirrored manifest')
      }
    }
  }
  return evicted
}

/** What manifests in use need to serve: the images of an index, the subject of a signature. */
async function referencesOf(
  used: readonly PulledManifest[],
  local: Registry,
): Promise<ReadonlySet<Digest>> {
  const referred = new Set<Digest>()
  for (const { name, digest } of used) {
    const { manifests: held } = local.repository(name)
    const found = await held.get({ kind: 'digest', digest })
    if (!found) continue
    const { manifests = [], subject } = parseManifest(found.mediaType, found.bytes)
    for (const child of manifests) referred.add(child.digest)
    if (subject) referred.add(subject.digest)
  }
  return referred
}
