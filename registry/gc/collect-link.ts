import type { Digest } from '../../core/digest.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { killLink, removeLink } from '../blob-index.ts'
import { keys } from '../keys.ts'
import type { Quotas } from '../quota.ts'
import { linkRecord, type Link } from '../records.ts'
import { readVersioned, swap, type Versioned } from '../versioned.ts'
import type { ReadReferences } from './references.ts'

/** A condemned version, and a moment (`ReadReferences.now`) after it was condemned. */
export interface Condemned {
  readonly rev: number
  readonly since: number
}

/** What one look at a thing came to. `waiting`: look again after the grace, with what was seen. */
export type Outcome =
  | { readonly kind: 'kept' }
  | { readonly kind: 'not-yet'; readonly at: number }
  | { readonly kind: 'waiting'; readonly condemned: Condemned }
  | { readonly kind: 'removed'; readonly bytes: number }

export interface LinkParts {
  readonly objects: ObjectStore
  readonly readReferences: ReadReferences
  readonly accounts: Pick<Quotas, 'discharge'>
}

export interface LinkCandidate {
  readonly name: string
  readonly digest: Digest
  /** Ms a link keeps after its push although nothing refers to it. */
  readonly orphanGraceMs: number
  /** Ms it keeps after it was last answered. */
  readonly askedGraceMs: number
  /** A moment when it was a candidate already. */
  readonly since: number
  /** The condemned version whose grace is over. */
  readonly waitedFor: Condemned | undefined
}

/**
 * One look at a link that no manifest may refer to any more: live → condemned, and after the grace
 * condemned → dead → removed. Between the two whoever needs the link takes it back to live, and
 * the last look at the manifests comes after it was condemned.
 */
export async function collectLink(
  { objects, readReferences, accounts }: LinkParts,
  candidate: LinkCandidate,
): Promise<Outcome> {
  const { name, digest, orphanGraceMs, askedGraceMs, waitedFor } = candidate
  const key = keys.link(name, digest)
  const waiting = (rev: number): Outcome => {
    return { kind: 'waiting', condemned: { rev, since: readReferences.now() } }
  }
  const found = await readVersioned(objects, linkRecord, key)
  if (!found) return { kind: 'kept' }
  const { record } = found
  if (record.state === 'dead') return remove(found)
  if (record.state === 'live') {
    const pushed = Date.parse(record.at) + orphanGraceMs
    const asked = record.asked === undefined ? 0 : Date.parse(record.asked) + askedGraceMs
    const due = Math.max(pushed, asked)
    if (due > Date.now()) return { kind: 'not-yet', at: due }
    const { blobs } = await readReferences(name, candidate.since)
    if (blobs.has(digest)) return { kind: 'kept' }
    const since = new Date().toISOString()
    const rev = record.rev + 1
    const condemned: Link = { ...record, state: 'condemned', rev, since }
    const done = await swap(objects, key, condemned, found)
    return done ? waiting(rev) : { kind: 'not-yet', at: Date.now() }
  }
  if (record.rev !== waitedFor?.rev) return waiting(record.rev)
  if ((await readReferences(name, waitedFor.since)).blobs.has(digest)) {
    const { since: _, ...kept } = record
    await swap(objects, key, { ...kept, state: 'live', rev: record.rev + 1 }, found)
    return { kind: 'kept' }
  }
  const dead = await killLink(objects, name, digest, found)
  if (!dead) return { kind: 'not-yet', at: Date.now() }
  await accounts.discharge(name, record.size)
  return remove(dead)

  async function remove(dead: Versioned<Link>): Promise<Outcome> {
    await removeLink(objects, name, digest, dead)
    return { kind: 'removed', bytes: dead.record.size }
  }
}
