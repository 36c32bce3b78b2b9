import type { Digest } from '../../core/digest.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { readManifest } from '../manifest-records.ts'
import { expiredTags, type RetentionRule } from '../retention.ts'
import { createTags, type TagFacts } from '../tags.ts'
import type { References } from './references.ts'

const dayMs = 24 * 60 * 60 * 1000

/** What a retention rule removes from one repository. */
export interface Expired {
  readonly tags: readonly TagFacts[]
  /** Manifests that nothing names, and those that only expired tags name. */
  readonly manifests: readonly Digest[]
}

export interface RetainParts {
  readonly objects: ObjectStore
  readonly isImmutable: (repository: string, tag: string) => boolean
}

/** Judges one repository by its rule; removes nothing. */
export async function findExpired(
  { objects, isImmutable }: RetainParts,
  { name, rule, references }: { name: string; rule: RetentionRule; references: References },
): Promise<Expired> {
  const tags: TagFacts[] = []
  for await (const tag of createTags(name, objects).all()) tags.push(tag)
  const movable = tags.filter(({ tag }) => !isImmutable(name, tag))
  const expired = new Set(expiredTags(movable, rule, Date.now()))
  const tagged = new Set(tags.filter((tag) => !expired.has(tag)).map(({ digest }) => digest))
  const lost = new Set([...expired].map(({ digest }) => digest).filter((it) => !tagged.has(it)))
  const { untaggedDays } = rule
  const manifests: Digest[] = [...lost]
  for (const [digest, subject] of references.manifests) {
    if (untaggedDays === undefined || tagged.has(digest) || lost.has(digest)) continue
    if (references.children.has(digest)) continue
    if (subject !== undefined && references.manifests.has(subject)) continue
    const stored = await readManifest(objects, name, digest)
    const at = stored?.record.at
    if (at !== undefined && Date.parse(at) + untaggedDays * dayMs < Date.now())
      manifests.push(digest)
  }
  return { tags: [...expired], manifests }
}
