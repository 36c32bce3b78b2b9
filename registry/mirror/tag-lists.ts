import { LRUCache } from 'lru-cache'
import { CodedError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import type { Page } from '../../core/registry.ts'
import type { MirrorMetrics } from './metrics.ts'
import { createSingleFlight } from './single-flight.ts'
import type { UpstreamRepository } from './upstream.ts'

/** Tags remembered, of all repositories of a mirror together. */
const rememberedTags = 1_000_000

/** One repository of a mirror: the tags held of it here, and where they come from. */
export interface MirroredTags {
  readonly name: string
  readonly upstream: UpstreamRepository
  listHeld(page: Page): Promise<string[]>
}

export interface TagLists {
  /**
   * A page of the upstream's tags, asked for once in the time to live; where it cannot be asked,
   * of those held here. Throws NAME_UNKNOWN where the upstream has no such repository.
   */
  list(repository: MirroredTags, page: Page): Promise<string[]>
}

export function createTagLists(parts: {
  readonly ttlMs: number
  readonly metrics: MirrorMetrics
  readonly log: Log
}): TagLists {
  const { ttlMs, metrics, log } = parts
  const lists = new LRUCache<string, readonly string[]>({
    maxSize: rememberedTags,
    sizeCalculation: (tags) => tags.length + 1,
  })
  const fly = createSingleFlight<readonly string[]>()

  async function ask({ name, upstream }: MirroredTags): Promise<readonly string[]> {
    const found = await upstream.listTags()
    metrics.request('tags', 'miss')
    if (!found) throw new CodedError('NAME_UNKNOWN', `the upstream has no repository for ${name}`)
    // Whatever the upstream's order is, ours is the order of bytes; tags are ASCII.
    const tags = [...new Set(found)].sort()
    if (ttlMs > 0) lists.set(name, tags, { ttl: ttlMs })
    return tags
  }

  async function listHeld(repository: MirroredTags, page: Page, failure: unknown) {
    const held = await repository.listHeld(page).catch(() => undefined)
    if (!held) throw failure
    metrics.request('tags', 'stale')
    log.warn({ err: failure, name: repository.name }, 'a mirror lists the tags that it holds')
    return held
  }

  return {
    async list(repository, page) {
      const { name } = repository
      const known = lists.get(name)
      if (known) {
        metrics.request('tags', 'hit')
        return pageOf(known, page)
      }
      try {
        return pageOf(await fly(name, () => ask(repository)), page)
      } catch (error) {
        if (error instanceof CodedError && error.code === 'NAME_UNKNOWN') throw error
        return listHeld(repository, page, error)
      }
    },
  }
}

function pageOf(tags: readonly string[], { last, limit = Infinity }: Page): string[] {
  const start = last === undefined ? 0 : tags.findIndex((tag) => tag > last)
  return start < 0 ? [] : tags.slice(start, start + limit)
}
