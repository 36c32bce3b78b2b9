import { LRUCache } from 'lru-cache'
import { digestAlgorithm, digestHex, parseDigest, type Digest } from '../../core/digest.ts'
import type { ObjectStore } from '../../core/object-store.ts'

const folder = 'v1/pulls/'
const hourMs = 60 * 60 * 1000
/** Manifests whose last note is remembered, so that it is not written again within the hour. */
const remembered = 100_000
const listedAtOnce = 1000

/** A manifest that a mirror keeps, and when it was last pulled. */
export interface PulledManifest {
  readonly name: string
  readonly digest: Digest
  /** Start of the hour, ms of `Date.now()`. */
  readonly pulledAt: number
}

/**
 * When manifests were last pulled, to the hour. The hour is in the key of an empty object: to look
 * for what is unused is a listing, without reading anything.
 */
export interface PullTimes {
  /** The manifest comes from the upstream now. */
  add(name: string, digest: Digest): Promise<void>
  /**
   * The manifest is pulled now. Looks and writes at most once an hour; leaves what was not added
   * alone, so that nothing that was pushed here is ever taken for a copy.
   */
  note(name: string, digest: Digest): Promise<void>
  /** True for manifests that were added. */
  has(name: string, digest: Digest): Promise<boolean>
  /** What was noted in repositories below `prefix`, one repository after the other. */
  list(prefix: string): AsyncGenerator<PulledManifest[], void>
  forget(name: string, digest: Digest): Promise<void>
}

export function createPullTimes(objects: ObjectStore, now: () => number): PullTimes {
  const noted = new LRUCache<string, number>({ max: remembered })

  const folderOf = (name: string, digest: Digest): string =>
    `${folder}${name}/_m/${digestAlgorithm(digest)}/${digestHex(digest)}/`

  const hourNow = (): number => Math.floor(now() / hourMs)

  async function hoursOf(name: string, digest: Digest): Promise<number[]> {
    const below = folderOf(name, digest)
    const found = await objects.list(below, {})
    return found.map((key) => Number(key.slice(below.length)))
  }

  async function deleteHours(name: string, digest: Digest, hours: readonly number[]) {
    for (const hour of hours) await objects.delete(folderOf(name, digest) + String(hour))
  }

  async function add(name: string, digest: Digest, earlier: readonly number[] = []) {
    const hour = hourNow()
    await objects.put(folderOf(name, digest) + String(hour), new Uint8Array(), 'always')
    noted.set(`${name}@${digest}`, hour)
    await deleteHours(
      name,
      digest,
      earlier.filter((one) => one < hour),
    )
  }

  return {
    add,
    async note(name, digest) {
      const id = `${name}@${digest}`
      if (noted.get(id) === hourNow()) return
      noted.set(id, hourNow())
      try {
        const earlier = await hoursOf(name, digest)
        if (earlier.length > 0) await add(name, digest, earlier)
      } catch (error) {
        noted.delete(id)
        throw error
      }
    },
    async has(name, digest) {
      return (await objects.list(folderOf(name, digest), { limit: 1 })).length > 0
    },
    async *list(prefix) {
      let found: PulledManifest[] = []
      let after: string | undefined
      for (;;) {
        const page = await objects.list(`${folder}${prefix}/`, { after, limit: listedAtOnce })
        for (const key of page) {
          const pulled = parseKey(key)
          if (!pulled) continue
          if (found[0] && found[0].name !== pulled.name) {
            yield found
            found = []
          }
          // A later hour of the same manifest comes right behind the earlier one.
          if (found.at(-1)?.digest === pulled.digest) found.pop()
          found.push(pulled)
        }
        after = page.at(-1)
        if (page.length < listedAtOnce) break
      }
      if (found.length > 0) yield found
    },
    async forget(name, digest) {
      noted.delete(`${name}@${digest}`)
      await deleteHours(name, digest, await hoursOf(name, digest))
    },
  }
}

function parseKey(key: string): PulledManifest | undefined {
  const found = /^v1\/pulls\/(.+)\/_m\/(sha256|sha512)\/([0-9a-f]+)\/(\d+)$/.exec(key)
  if (!found) return undefined
  const [, name = '', algorithm = '', hex = '', hour = ''] = found
  return { name, digest: parseDigest(`${algorithm}:${hex}`), pulledAt: Number(hour) * hourMs }
}
