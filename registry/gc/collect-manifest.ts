import type { Digest } from '../../core/digest.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { changeManifest, readManifest, removeManifest } from '../manifest-records.ts'
import type { ManifestRecord } from '../records.ts'
import { createTags } from '../tags.ts'
import type { ReadReferences } from './references.ts'

/** A push that has not published its manifest for so long is over. */
const pushMs = 60 * 60 * 1000

export interface ManifestParts {
  readonly objects: ObjectStore
  readonly readReferences: ReadReferences
}

/**
 * One look at a manifest that may have lost its last tag: where no tag, no index and no subject
 * that is there keeps it, it goes. Answers what it was, `undefined` where it stays. It is condemned
 * before the tags are read; who tags it looks at it after the tag.
 */
export async function collectManifest(
  { objects, readReferences }: ManifestParts,
  { name, digest }: { readonly name: string; readonly digest: Digest },
): Promise<ManifestRecord | undefined> {
  for (;;) {
    const found = await readManifest(objects, name, digest)
    if (!found) return undefined
    if (found.record.state === 'dead') {
      await removeManifest(objects, name, digest, found)
      return found.record
    }
    if (found.record.state === 'pending' && !isAbandoned(found.record)) return undefined
    if (found.record.state === 'live' && (await isKept())) return undefined
    const condemned =
      found.record.state === 'live'
        ? await changeManifest(objects, name, digest, found, 'condemned')
        : found
    if (!condemned) continue
    if (condemned.record.state === 'condemned' && (await isKept())) {
      await changeManifest(objects, name, digest, condemned, 'live')
      return undefined
    }
    const dead = await changeManifest(objects, name, digest, condemned, 'dead')
    if (!dead) continue
    await removeManifest(objects, name, digest, dead)
    return dead.record
  }

  function isAbandoned({ at }: ManifestRecord): boolean {
    return Date.parse(at) + pushMs < Date.now()
  }

  async function isKept(): Promise<boolean> {
    for await (const tag of createTags(name, objects).all()) if (tag.digest === digest) return true
    const { children, manifests } = await readReferences(name)
    const subject = manifests.get(digest)
    return children.has(digest) || (subject !== undefined && manifests.has(subject))
  }
}
