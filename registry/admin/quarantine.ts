import { setTimeout } from 'node:timers/promises'
import { z } from 'zod'
import type { Digest } from '../../core/digest.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { killLink, removeLink } from '../blob-index.ts'
import type { DataStore } from '../data-store.ts'
import { keys, parseReferenceKey } from '../keys.ts'
import type { Quotas } from '../quota.ts'
import {
  encodeJson,
  linkRecord,
  pointerRecord,
  quarantineRecord,
  type Pointer,
  type Quarantine,
} from '../records.ts'
import { readVersioned, swap, type Versioned } from '../versioned.ts'
import { parseKey } from './keyspace.ts'
import { see } from './see.ts'

export interface QuarantineParts {
  readonly objects: ObjectStore
  readonly data: Pick<DataStore, 'delete'>
  readonly accounts: Pick<Quotas, 'discharge'>
  /** Ms that a link which is being made is given; ten seconds but for tests. */
  readonly linkWaitMs?: number
}

/** What is wrong with a blob's bytes; without `found` some of them are not there. */
export interface Damage {
  readonly found: Digest | undefined
  readonly why: string
}

/** A damaged blob that was taken out of service. */
export const quarantinedBlob = z.object({
  digest: z.string(),
  size: z.int(),
  why: z.string(),
  repositories: z.array(z.string()),
  at: z.iso.datetime(),
  /** Somebody has pushed the blob again: it is served from other bytes. */
  isHealed: z.boolean(),
})
export type QuarantinedBlob = z.output<typeof quarantinedBlob>

const linkPollMs = 100

/**
 * Takes a blob out of service whose bytes, named by the pointer `found`, are damaged: it is answered
 * 404 everywhere, and whoever pushes it again heals it for all who push or mount it then. The bytes
 * stay for somebody to look at. `undefined` where it was removed or pushed again meanwhile.
 */
export async function quarantine(
  { objects, accounts, linkWaitMs = 10_000 }: QuarantineParts,
  digest: Digest,
  found: Versioned<Pointer>,
  damage: Damage,
): Promise<Quarantine | undefined> {
  const { data, offset, size, segments } = found.record
  const at = new Date().toISOString()
  const references = await objects.list(keys.references(digest), {})
  const names = new Set(references.flatMap((key) => parseReferenceKey(key)?.name ?? []))
  const where = { data, offset, size, ...(segments ? { segments } : {}) }
  const facts = { ...damage, repositories: [...names].sort(), at }
  const record: Quarantine = { ...where, ...facts }
  // First of all somebody must own the bytes: they stay when the pointer goes.
  const key = keys.quarantine(digest, data)
  await objects.put(key, encodeJson(record), 'always')
  const dead: Pointer = {
    ...found.record,
    state: 'dead',
    rev: found.record.rev + 1,
    since: at,
    quarantined: true,
  }
  if (!(await swap(objects, keys.pointer(digest), dead, found))) {
    await objects.delete(key)
    return undefined
  }
  await severLinks({ objects, accounts, linkWaitMs }, digest)
  return record
}

/**
 * Ends all links to a blob in quarantine, so that nobody is told that it is there. Who heals the
 * blob names other bytes first and then writes its link; this reads the link first and looks at the
 * pointer after that. So a link is ended only as it was before the blob was healed.
 */
export async function severLinks(
  { objects, accounts, linkWaitMs = 10_000 }: Omit<QuarantineParts, 'data'>,
  digest: Digest,
): Promise<void> {
  const deadline = performance.now() + linkWaitMs
  for (;;) {
    let isWaiting = false
    for (const key of await objects.list(keys.references(digest), {})) {
      const reference = parseReferenceKey(key)
      if (!reference) continue
      const outcome = await severLink(reference.name, reference.nonce)
      if (outcome === 'healed') return
      // Its writer has seen the pointer alive; its link is about to come.
      if (outcome === 'none') isWaiting = true
    }
    if (!isWaiting || performance.now() > deadline) return
    await setTimeout(linkPollMs)
  }

  async function severLink(name: string, nonce: string): Promise<'severed' | 'healed' | 'none'> {
    for (;;) {
      const link = await readVersioned(objects, linkRecord, keys.link(name, digest))
      if (!link || link.record.state === 'dead' || link.record.nonce !== nonce) return 'none'
      const pointer = await readVersioned(objects, pointerRecord, keys.pointer(digest))
      if (pointer && pointer.record.state !== 'dead') return 'healed'
      const dead = await killLink(objects, name, digest, link)
      if (!dead) continue
      await accounts.discharge(name, dead.record.size)
      await removeLink(objects, name, digest, dead)
      return 'severed'
    }
  }
}

/** What is in quarantine, in byte order of the digests. */
export async function listQuarantine(objects: ObjectStore): Promise<QuarantinedBlob[]> {
  const found: QuarantinedBlob[] = []
  for (const key of await objects.list(keys.quarantines, {})) {
    const thing = parseKey(key)
    const { record } = await see({ objects }, quarantineRecord, key)
    if (thing?.kind !== 'quarantine' || !record) continue
    const { size, why, repositories, at } = record
    const pointer = await see({ objects }, pointerRecord, keys.pointer(thing.digest))
    const isHealed = pointer.record !== undefined && pointer.record.state !== 'dead'
    found.push({ digest: thing.digest, size, why, repositories, at, isHealed })
  }
  return found
}

/** Deletes all damaged bytes for good; how many bytes they were. */
export async function purgeQuarantine({
  objects,
  data,
}: Pick<QuarantineParts, 'objects' | 'data'>): Promise<{ blobs: number; bytes: number }> {
  const purged = { blobs: 0, bytes: 0 }
  for (const key of await objects.list(keys.quarantines, {})) {
    const thing = parseKey(key)
    const { record } = await see({ objects }, quarantineRecord, key)
    if (!record || thing?.kind !== 'quarantine') continue
    // One that is about to be taken out of service, or was not after all.
    const { record: pointer } = await see({ objects }, pointerRecord, keys.pointer(thing.digest))
    if (pointer && pointer.state !== 'dead' && pointer.data === record.data) continue
    await data.delete(record)
    await objects.delete(key)
    purged.blobs++
    purged.bytes += record.size
  }
  return purged
}
