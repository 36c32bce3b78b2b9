import { LRUCache } from 'lru-cache'
import type { Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import type { Page } from '../../core/registry.ts'
import type { Referrer, ReferrerPage, StoredManifests } from '../manifests.ts'
import type { MirrorMetrics } from './metrics.ts'
import { createSingleFlight } from './single-flight.ts'
import type { UpstreamRepository } from './upstream.ts'

/** Entries remembered, of all listings of a mirror together. */
const rememberedEntries = 1_000_000

/** One repository of a mirror: what is held of it here, and where it comes from. */
export interface MirroredListings {
  readonly name: string
  readonly upstream: UpstreamRepository
  readonly held: Pick<StoredManifests, 'listReferrers'> & {
    listTags(page: Page): Promise<string[]>
  }
}

/**
 * Pages of the upstream's listings, each asked for once in the time to live; where it cannot be
 * asked, of what is held here.
 */
export interface Listings {
  /** Throws NAME_UNKNOWN where the upstream has no such repository. */
  tags(repository: MirroredListings, page: Page): Promise<string[]>
  referrers(repository: MirroredListings, subject: Digest, page: Page): Promise<ReferrerPage>
}

export interface ListingsParts {
  readonly ttlMs: number
  readonly metrics: MirrorMetrics
  readonly log: Log
}

export function createListings(parts: ListingsParts): Listings {
  const { metrics, log } = parts
  const tagLists = createCache<string>(parts)
  const referrerLists = createCache<Referrer>(parts)

  return {
    async tags({ name, upstream, held }, page) {
      let tags: readonly string[] | undefined
      try {
        tags = await tagLists(name, () => upstream.listTags(), byteOrder)
      } catch (error) {
        const found = await held.listTags(page).catch(() => undefined)
        if (!found) throw error
        metrics.request('listing', 'stale')
        log.warn({ err: error, name }, 'a mirror lists the tags that it holds')
        return found
      }
      if (!tags) throw new CodedError('NAME_UNKNOWN', `the upstream has no repository for ${name}`)
      return pageOf(tags, (tag) => tag, page)
    },
    async referrers({ name, upstream, held }, subject, page) {
      const id = `${name}@${subject}`
      const ask = () => upstream.listReferrers(subject)
      const order = (a: Referrer, b: Referrer): number => byteOrder(a.digest, b.digest)
      const found = await referrerLists(id, ask, order).catch((error: unknown) => {
        log.warn({ err: error, name }, 'a mirror lists the referrers that it holds')
      })
      // An upstream without this listing has a tag in its place, which is a manifest as any other.
      if (!found) return held.listReferrers(subject, page)
      const referrers = pageOf(found, ({ digest }) => digest, page)
      const isAll = referrers.length < (page.limit ?? Infinity)
      return { referrers, next: isAll ? undefined : referrers.at(-1)?.digest }
    },
  }
}

type Ask<T> = () => Promise<readonly T[] | undefined>
type Order<T> = (a: T, b: T) => number

/** Listings in our order, whatever the upstream's is; `undefined` where it has none. */
function createCache<T>({ ttlMs, metrics }: ListingsParts) {
  const lists = new LRUCache<string, readonly T[]>({
    maxSize: rememberedEntries,
    sizeCalculation: (entries) => entries.length + 1,
  })
  const fly = createSingleFlight<readonly T[] | undefined>()
  return async (id: string, ask: Ask<T>, order: Order<T>): Promise<readonly T[] | undefined> => {
    const known = lists.get(id)
    metrics.request('listing', known ? 'hit' : 'miss')
    return (
      known ??
      fly(id, async () => {
        const found = (await ask())?.toSorted(order)
        // To the cache a lifetime of 0 means forever.
        if (found && ttlMs > 0) lists.set(id, found, { ttl: ttlMs })
        return found
      })
    )
  }
}

/** Of ASCII text. */
const byteOrder = (a: string, b: string): number => (a < b ? -1 : Number(a > b))

/** What comes after `last`. */
function pageOf<T>(
  entries: readonly T[],
  nameOf: (entry: T) => string,
  { last, limit = Infinity }: Page,
): T[] {
  const start = last === undefined ? 0 : entries.findIndex((entry) => nameOf(entry) > last)
  return start < 0 ? [] : entries.slice(start, start + limit)
}
