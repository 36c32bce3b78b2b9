import { z } from 'zod'
import { CodedError } from '../../core/errors.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { digestOfKey, keys } from '../keys.ts'
import type { StoreRegistry } from '../store-registry.ts'
import { createTags } from '../tags.ts'
import { readLinks, unknownRepository } from './usage.ts'

export const removedRepository = z.object({
  name: z.string(),
  tags: z.int(),
  manifests: z.int(),
  blobs: z.int(),
  /** Bytes of its blobs; those that no other repository has come back a minute later. */
  bytes: z.int(),
})
export type RemovedRepository = z.output<typeof removedRepository>

export interface RemoveParts {
  readonly objects: ObjectStore
  readonly registry: StoreRegistry
  readonly isImmutable: (repository: string, tag: string) => boolean
}

/**
 * Removes all tags, manifests and links of a repository, top-down. What is pushed to it meanwhile
 * may stay. Throws NAME_UNKNOWN where it holds nothing, TAG_IMMUTABLE where a rule protects one of
 * its tags; then all of it stays.
 */
export async function removeRepository(
  { objects, registry, isImmutable }: RemoveParts,
  text: string,
): Promise<RemovedRepository> {
  const { name, manifests, blobs } = registry.repository(text)
  const removed = { name, tags: 0, manifests: 0, blobs: 0, bytes: 0 }
  const tags: string[] = []
  for await (const { tag } of createTags(name, objects).all()) tags.push(tag)
  const kept = tags.find((tag) => isImmutable(name, tag))
  if (kept !== undefined) {
    throw new CodedError(
      'TAG_IMMUTABLE',
      `cannot remove ${name}: a rule of this registry makes its tag ${kept} immutable; change the rule first`,
      { detail: { name, tag: kept } },
    )
  }
  for (const tag of tags) {
    if (await manifests.delete({ kind: 'tag', tag })) removed.tags++
  }
  for (const key of await objects.list(keys.manifests(name), {})) {
    const digest = digestOfKey(key)
    if (digest && (await manifests.delete({ kind: 'digest', digest }))) removed.manifests++
  }
  for await (const { digest, size } of readLinks(objects, name)) {
    if (!(await blobs.delete(digest))) continue
    removed.blobs++
    removed.bytes += size
  }
  if (removed.tags + removed.manifests + removed.blobs === 0) throw unknownRepository(name)
  return removed
}
