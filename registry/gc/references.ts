import { LRUCache } from 'lru-cache'
import type { Digest } from '../../core/digest.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { digestOfKey, keys } from '../keys.ts'
import { readManifest } from '../manifest-records.ts'
import type { ManifestRecord } from '../records.ts'

/** Records read at a time where a whole repository is looked through. */
const readAtOnce = 32
const dayMs = 24 * 60 * 60 * 1000
/** Manifests whose references are remembered, over all repositories. */
const mostRemembered = 200_000
/** Repositories whose last look is kept, for so long. */
const keptLooks = 8
const keptLookMs = 5 * 60_000

type Facts = Pick<ManifestRecord, 'state' | 'blobs' | 'manifests' | 'kept' | 'subject'>

/** What the manifests of one repository refer to, dead ones not counted. */
export interface References {
  readonly blobs: ReadonlySet<Digest>
  /** Manifests that an index names. */
  readonly children: ReadonlySet<Digest>
  /** Manifests that are there, with the subject each names. */
  readonly manifests: ReadonlyMap<Digest, Digest | undefined>
  /** What a crash may have left: dead, or announced and never published. */
  readonly unfinished: readonly Digest[]
}

/** Says what the manifests of a repository refer to. */
export interface ReadReferences {
  /**
   * Looks now; with `since` also a look will do that began after that moment, so that one look
   * serves everything in a repository that was condemned before it.
   */
  (name: string, since?: number): Promise<References>
  /** A moment of this process: what is written before it is seen by looks that begin after it. */
  now(): number
}

/**
 * Reads what manifests refer to. A digest always names the same references, so a manifest is read
 * once; only where dead records must stay (no conditional delete) their state is read every time.
 */
export function createReadReferences(objects: ObjectStore): ReadReferences {
  const remembered = new LRUCache<string, Facts>({
    maxSize: mostRemembered,
    sizeCalculation: () => 1,
    ttl: dayMs,
  })

  async function factsOf(name: string, digest: Digest): Promise<Facts | undefined> {
    const key = keys.manifest(name, digest)
    const known = remembered.get(key)
    if (known) return known
    const stored = await readManifest(objects, name, digest)
    if (!stored) return undefined
    const { state, blobs, manifests, kept, subject } = stored.record
    const facts = { state, blobs, manifests, kept, subject }
    if (objects.conditionalDelete && (state === 'live' || state === 'condemned'))
      remembered.set(key, facts)
    return facts
  }

  async function look(name: string): Promise<References> {
    const blobs = new Set<Digest>()
    const children = new Set<Digest>()
    const manifests = new Map<Digest, Digest | undefined>()
    const unfinished: Digest[] = []
    const found = await objects.list(keys.manifests(name), {})
    const digests = found.flatMap((key) => digestOfKey(key) ?? [])
    for (let at = 0; at < digests.length; at += readAtOnce) {
      const some = digests.slice(at, at + readAtOnce)
      const facts = await Promise.all(some.map((digest) => factsOf(name, digest)))
      for (const [index, digest] of some.entries()) {
        const one = facts[index]
        if (!one) continue
        if (one.state === 'dead' || one.state === 'pending') unfinished.push(digest)
        if (one.state !== 'dead') {
          for (const blob of [...one.blobs, ...one.kept]) blobs.add(blob)
          for (const child of one.manifests) children.add(child)
          manifests.set(digest, one.subject)
        }
      }
    }
    return { blobs, children, manifests, unfinished }
  }

  const looks = new LRUCache<
    string,
    { readonly began: number; readonly found: Promise<References> }
  >({ max: keptLooks, ttl: keptLookMs })
  let moment = 0

  async function read(name: string, since?: number): Promise<References> {
    const last = looks.get(name)
    if (since !== undefined && last && last.began > since) return last.found
    const mine = { began: ++moment, found: look(name) }
    looks.set(name, mine)
    try {
      return await mine.found
    } catch (error) {
      if (looks.peek(name) === mine) looks.delete(name)
      throw error
    }
  }

  return Object.assign(read, { now: () => ++moment })
}
