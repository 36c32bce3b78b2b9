import { randomUUID } from 'node:crypto'
import type { Descriptor, Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { tagExists } from '../core/registry.ts'
import { keys } from './keys.ts'
import { tagRecord, type TagRecord } from './records.ts'
import { readVersioned, swap } from './versioned.ts'

/** Records read at a time where a whole repository is looked through. */
const readAtOnce = 32

export interface MoveOptions {
  readonly replace: boolean
  readonly before?: TagRecord | undefined
}

export interface TagFacts extends Descriptor {
  readonly tag: string
  /** When it was moved there, ms of `Date.now()`. */
  readonly at: number
  readonly etag: string
}

/** A tag that was moved: the version written, and what it replaced. */
export interface MovedTag {
  readonly etag: string
  readonly before: TagRecord | undefined
}

/** The tags of one repository. */
export interface Tags {
  /** The digest it points to; `undefined` where there is no such tag. */
  resolve(tag: string): Promise<Digest | undefined>
  /**
   * Points `tag` there. TAG_EXISTS or TAG_IMMUTABLE where it points elsewhere. `before`: what
   * an earlier move of the same push has replaced.
   */
  move(tag: string, to: Descriptor, options: MoveOptions): Promise<MovedTag>
  /** Undoes a move where nobody has moved the tag since. */
  putBack(tag: string, moved: MovedTag): Promise<void>
  /** Throws what `move` would throw now. */
  requireFree(tag: string, digest: Digest, options: MoveOptions): Promise<void>
  /** Throws TAG_IMMUTABLE where the tag, which points to `digest`, may not be moved or deleted. */
  requireMutable(tag: string, digest: Digest): void
  /** Throws TAG_IMMUTABLE. */
  delete(tag: string): Promise<boolean>
  /** Removes it where it was not written since. */
  deleteVersion(tag: string, etag: string): Promise<boolean>
  /** All tags with what they point to, in byte order, read a few at a time. */
  all(): AsyncGenerator<TagFacts, void>
}

/** `isImmutable`: whether a tag of this repository may never be moved or deleted by clients. */
export function createTags(
  name: string,
  objects: ObjectStore,
  isImmutable: (tag: string) => boolean = () => false,
): Tags {
  const read = (tag: string) => readVersioned(objects, tagRecord, keys.tag(name, tag))

  function requireMutable(tag: string, digest: Digest): void {
    if (!isImmutable(tag)) return
    throw new CodedError(
      'TAG_IMMUTABLE',
      `${name}:${tag} points to ${digest} for good: a rule of this registry makes it immutable; use another tag`,
      { detail: { name, tag, digest } },
    )
  }

  function requireMovable(tag: string, before: Digest, to: Digest, replace: boolean): void {
    if (before === to) return
    requireMutable(tag, before)
    if (!replace) throw tagExists(name, tag, before)
  }

  return {
    resolve: async (tag) => (await read(tag))?.record.digest,
    async requireFree(tag, digest, { replace }) {
      const current = await read(tag)
      if (current) requireMovable(tag, current.record.digest, digest, replace)
    },
    async move(tag, to, { replace, before: replaced }) {
      for (;;) {
        const current = await read(tag)
        if (current) requireMovable(tag, current.record.digest, to.digest, replace)
        // Written also where it points there already: who is deleting that version must notice.
        const record = { ...to, nonce: randomUUID(), at: new Date().toISOString() }
        const written = await swap(objects, keys.tag(name, tag), record, current)
        if (written) return { etag: written.etag, before: replaced ?? current?.record }
      }
    },
    async putBack(tag, { etag, before }) {
      const key = keys.tag(name, tag)
      if (before) await swap(objects, key, { ...before, nonce: randomUUID() }, { etag })
      else await objects.delete(key, { ifMatch: etag })
    },
    requireMutable,
    async delete(tag) {
      const current = await read(tag)
      if (current) requireMutable(tag, current.record.digest)
      return objects.delete(keys.tag(name, tag))
    },
    deleteVersion: (tag, etag) => objects.delete(keys.tag(name, tag), { ifMatch: etag }),
    async *all() {
      const folder = keys.tags(name)
      const found = await objects.list(folder, {})
      for (let at = 0; at < found.length; at += readAtOnce) {
        const names = found.slice(at, at + readAtOnce).map((key) => key.slice(folder.length))
        const records = await Promise.all(names.map(read))
        for (const [index, tag] of names.entries()) {
          const found = records[index]
          if (!found) continue
          yield { ...found.record, tag, at: Date.parse(found.record.at), etag: found.etag }
        }
      }
    },
  }
}
