import { randomUUID } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { keys } from './keys.ts'
import type { Quotas } from './quota.ts'
import { linkRecord, pointerRecord, type Link, type Pointer } from './records.ts'
import { readVersioned, removeDead, swap, type Versioned } from './versioned.ts'

/** Where the bytes of a finished blob are. */
export interface StoredBytes {
  /** Data object, the first of several where there are `segments`. */
  readonly data: string
  /** Position of the blob's first byte in it. */
  readonly offset: number
  readonly size: number
  /** Lengths of the data objects where there are several. */
  readonly segments?: readonly number[] | undefined
}

/**
 * Which blobs there are, and which repository may read them. The writer's half of the protocol
 * that `registry/gc/` has the collector's half of: `docs/decisions/010-online-gc.md`.
 */
export interface BlobIndex {
  /** Size of a blob that the repository may read; what this answered stays for a minute. */
  stat(name: string, digest: Digest): Promise<{ readonly size: number } | undefined>
  /** Where the bytes of a blob are, whoever may read them; `undefined` where it is not stored. */
  locate(digest: Digest, options?: { readonly fresh: boolean }): Promise<StoredBytes | undefined>
  /**
   * Makes verified, durable bytes readable in the repository. False where the same blob was there
   * already: then the bytes given are not needed. `hold`: the session whose reservation pays.
   */
  commit(name: string, digest: Digest, bytes: StoredBytes, hold?: string): Promise<boolean>
  /** Makes a stored blob readable in one more repository; false where it is not stored. */
  link(name: string, digest: Digest): Promise<boolean>
  /** False where the repository had no link. */
  unlink(name: string, digest: Digest): Promise<boolean>
  /** True where the blob's bytes are those of the data object. */
  isStoredIn(digest: Digest, data: string): Promise<boolean>
}

/** A link this old is renewed by a push, so that what was pushed now is kept from now on. */
const renewAfterMs = 60 * 60 * 1000
/** A reference that has waited longer for its link may have been taken for an orphan. */
const linkWithinMs = 60 * 60 * 1000
const cachedPointers = 100_000
const locatedMs = 60_000

export interface BlobIndexOptions {
  /** Hears of blobs that lost a link; ms of `Date.now()`. */
  readonly onUnlinked: (digest: Digest, at: number) => void
  readonly accounts: Pick<Quotas, 'charge' | 'discharge'>
}

export function createBlobIndex(
  objects: ObjectStore,
  { onUnlinked, accounts }: BlobIndexOptions,
): BlobIndex {
  // Where the bytes are never changes while a pointer lives; who finds no bytes there asks again.
  const located = new LRUCache<Digest, StoredBytes>({
    maxSize: cachedPointers,
    sizeCalculation: () => 1,
    // The bytes of a blob that was damaged are still there when others have taken their place.
    ttl: locatedMs,
  })

  const readPointer = (digest: Digest) =>
    readVersioned(objects, pointerRecord, keys.pointer(digest))
  const readLink = (name: string, digest: Digest) =>
    readVersioned(objects, linkRecord, keys.link(name, digest))

  /** A link that serves; a condemned one is taken back first, so that the answer holds. */
  async function findLink(
    name: string,
    digest: Digest,
    took: 'asked' | 'at',
  ): Promise<Link | undefined> {
    for (;;) {
      const found = await readLink(name, digest)
      if (!found || found.record.state === 'dead') return undefined
      const { record } = found
      const renew = took === 'at' && Date.parse(record.at) + renewAfterMs < Date.now()
      if (record.state === 'live' && !renew) return record
      const { since: _, ...kept } = record
      const now = new Date().toISOString()
      const live: Link = { ...kept, state: 'live', rev: record.rev + 1, [took]: now }
      if (await swap(objects, keys.link(name, digest), live, found)) return live
    }
  }

  /** Writes the link anew as it is; false where it is gone. */
  async function touchLink(name: string, digest: Digest): Promise<boolean> {
    for (;;) {
      const found = await readLink(name, digest)
      if (!found || found.record.state === 'dead') return false
      const touched = { ...found.record, rev: found.record.rev + 1 }
      if (await swap(objects, keys.link(name, digest), touched, found)) return true
    }
  }

  /** The pointer as it serves: a condemned one is taken back; `undefined` where it is not stored. */
  async function holdPointer(digest: Digest): Promise<Pointer | undefined> {
    for (;;) {
      const found = await readPointer(digest)
      if (!found || found.record.state === 'dead') return undefined
      const { record } = found
      if (record.state === 'live') return record
      const { since: _, ...kept } = record
      const live: Pointer = { ...kept, state: 'live', rev: record.rev + 1 }
      if (await swap(objects, keys.pointer(digest), live, found)) return live
    }
  }

  /** The pointer in force, which names `bytes` where there was none. */
  async function claimPointer(digest: Digest, bytes: StoredBytes): Promise<Pointer> {
    for (;;) {
      const held = await holdPointer(digest)
      if (held) return held
      const dead = await readPointer(digest)
      if (dead && dead.record.state !== 'dead') continue
      // A commit repeated long after it had succeeded: those bytes went with the blob.
      if (dead?.record.data === bytes.data) {
        throw new CodedError('BLOB_UPLOAD_UNKNOWN', `the blob ${digest} was removed; push it again`)
      }
      const rev = (dead?.record.rev ?? 0) + 1
      const { data, offset, size } = bytes
      const segments = bytes.segments && { segments: [...bytes.segments] }
      const at = new Date().toISOString()
      const mine: Pointer = { state: 'live', rev, data, offset, size, ...segments, at }
      if (await swap(objects, keys.pointer(digest), mine, dead)) return mine
    }
  }

  /**
   * Adds a link. The reference comes first, then the look at the pointer, then the link: either
   * the collector sees the reference, or this sees what the collector did to the pointer.
   */
  async function addLink(
    name: string,
    digest: Digest,
    point: () => Promise<Pointer | undefined>,
    hold?: string,
  ): Promise<Pointer | undefined> {
    const nonce = randomUUID()
    const reference = keys.reference(digest, name, nonce)
    const started = performance.now()
    const at = new Date().toISOString()
    await objects.put(reference, Buffer.from(at), 'ifAbsent')
    let charged = 0
    let linked = false
    /** Writing the link had no answer: it may be there. */
    let unsure = false
    try {
      const pointer = await point()
      if (!pointer) return undefined
      for (;;) {
        const current = await readLink(name, digest)
        if (current && current.record.state !== 'dead') {
          // Someone else was faster: that link has its own reference. Or it is ours, changed by
          // someone before the repetition of a write without an answer was refused.
          linked ||= current.record.nonce === nonce
          if (await findLink(name, digest, 'at')) return pointer
          continue
        }
        if (performance.now() - started > linkWithinMs) {
          throw new CodedError('UNAVAILABLE', `linking ${digest} took too long; push it again`)
        }
        if (charged === 0) await accounts.charge(name, pointer.size, hold)
        charged = pointer.size
        const link = linkOf(nonce, pointer.size, current, at)
        unsure = true
        linked = (await swap(objects, keys.link(name, digest), link, current)) !== undefined
        unsure = false
        if (linked) return pointer
      }
    } finally {
      const isOurs = linked || unsure
      if (!isOurs && charged > 0) await accounts.discharge(name, charged)
      if (!isOurs) await objects.delete(reference)
    }
  }

  return {
    stat: (name, digest) => findLink(name, digest, 'asked'),
    async locate(digest, { fresh } = { fresh: false }) {
      const known = fresh ? undefined : located.get(digest)
      if (known) return known
      const found = await readPointer(digest)
      if (!found || found.record.state === 'dead') return undefined
      const { data, offset, size, segments } = found.record
      const bytes = { data, offset, size, segments }
      located.set(digest, bytes)
      return bytes
    },
    async commit(name, digest, bytes, hold) {
      const claim = (): Promise<Pointer> => claimPointer(digest, bytes)
      let pointer: Pointer | undefined
      for (let isLinked = false; !isLinked;) {
        const linked = await findLink(name, digest, 'at')
        pointer = linked ? await claim() : await addLink(name, digest, claim, hold)
        // Who ends the links to damaged bytes must notice that this one is to ours from now on.
        isLinked = !linked || pointer?.data !== bytes.data || (await touchLink(name, digest))
      }
      if (pointer?.size !== bytes.size) {
        throw new CodedError(
          'UNKNOWN',
          `the pointer of ${digest} says ${pointer?.size} bytes, the verified bytes are ${bytes.size}`,
        )
      }
      located.delete(digest)
      return pointer.data === bytes.data
    },
    async link(name, digest) {
      if (await findLink(name, digest, 'at')) return true
      return (await addLink(name, digest, () => holdPointer(digest))) !== undefined
    },
    async unlink(name, digest) {
      for (;;) {
        const found = await readLink(name, digest)
        if (!found || found.record.state === 'dead') return false
        const dead = await killLink(objects, name, digest, found)
        if (!dead) continue
        await accounts.discharge(name, dead.record.size)
        await removeLink(objects, name, digest, dead)
        onUnlinked(digest, Date.now())
        return true
      }
    },
    async isStoredIn(digest, data) {
      return (await readPointer(digest))?.record.data === data
    },
  }
}

function linkOf(nonce: string, size: number, dead: Versioned<Link> | undefined, at: string): Link {
  return { state: 'live', rev: (dead?.record.rev ?? 0) + 1, nonce, size, at }
}

/** Ends a link for everybody; `undefined` where it is no longer the version that was read. */
export function killLink(
  objects: ObjectStore,
  name: string,
  digest: Digest,
  found: Versioned<Link>,
): Promise<Versioned<Link> | undefined> {
  const since = new Date().toISOString()
  const dead: Link = { ...found.record, state: 'dead', rev: found.record.rev + 1, since }
  return swap(objects, keys.link(name, digest), dead, found)
}

/** Clears away a dead link: its own reference, never one of a link made since, then its record. */
export async function removeLink(
  objects: ObjectStore,
  name: string,
  digest: Digest,
  dead: Versioned<Link>,
): Promise<void> {
  await objects.delete(keys.reference(digest, name, dead.record.nonce))
  await removeDead(objects, keys.link(name, digest), dead)
}
