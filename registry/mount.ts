import type { Digest } from '../core/digest.ts'
import type { ObjectStore } from '../core/object-store.ts'
import type { BlobIndex } from './blob-index.ts'
import { keys, parseReferenceKey } from './keys.ts'

/** References looked at for a repository the caller may pull from; a blob may have thousands. */
const mostLookedAt = 200

export interface MountOptions {
  /** Repository that has the blob; without it any that `mayPull` allows. */
  readonly from: string | undefined
  readonly to: string
  /** Whether the caller may pull from a repository: a mount tells that the blob is there. */
  readonly mayPull: (name: string) => boolean
}

/**
 * Makes a blob of one repository readable in another, no byte moved; false where no repository
 * the caller may pull from has it. @see OCI distribution-spec §mounting-a-blob-from-another-repository
 */
export async function mountBlob(
  { objects, index }: { readonly objects: ObjectStore; readonly index: BlobIndex },
  digest: Digest,
  { from, to, mayPull }: MountOptions,
): Promise<boolean> {
  for (const name of from === undefined ? await holders() : [from]) {
    if (mayPull(name) && (await index.stat(name, digest))) return index.link(to, digest)
  }
  return false

  async function holders(): Promise<Set<string>> {
    const found = await objects.list(keys.references(digest), { limit: mostLookedAt })
    return new Set(found.flatMap((key) => parseReferenceKey(key)?.name ?? []))
  }
}
