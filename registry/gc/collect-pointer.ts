import type { Digest } from '../../core/digest.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import type { DataStore } from '../data-store.ts'
import { keys } from '../keys.ts'
import { pointerRecord, type Pointer } from '../records.ts'
import { readVersioned, removeDead, swap, type Versioned } from '../versioned.ts'
import type { Outcome } from './collect-link.ts'

export interface PointerParts {
  readonly objects: ObjectStore
  readonly data: Pick<DataStore, 'delete'>
}

/**
 * One look at a blob that no repository may read any more: live → condemned → dead, then its data
 * goes. Whoever links it writes a reference first and looks at the pointer after that; this
 * condemns the pointer first and looks for references after that. So one of the two notices.
 */
export async function collectPointer(
  { objects, data }: PointerParts,
  digest: Digest,
): Promise<Outcome> {
  const key = keys.pointer(digest)
  const isReferenced = async (): Promise<boolean> =>
    (await objects.list(keys.references(digest), { limit: 1 })).length > 0
  for (;;) {
    const found = await readVersioned(objects, pointerRecord, key)
    if (!found) return { kind: 'kept' }
    if (found.record.state === 'dead') return remove(found)
    if (found.record.state === 'live' && (await isReferenced())) return { kind: 'kept' }
    const condemned = found.record.state === 'live' ? await change(found, 'condemned') : found
    if (!condemned) continue
    if (await isReferenced()) {
      await change(condemned, 'live')
      return { kind: 'kept' }
    }
    const dead = await change(condemned, 'dead')
    if (dead) return remove(dead)
  }

  function change(from: Versioned<Pointer>, state: Pointer['state']) {
    const { since: _, ...record } = from.record
    const since = state === 'live' ? {} : { since: new Date().toISOString() }
    return swap(objects, key, { ...record, state, rev: record.rev + 1, ...since }, from)
  }

  async function remove(dead: Versioned<Pointer>): Promise<Outcome> {
    const { quarantined = false, size } = dead.record
    if (!quarantined) await data.delete(dead.record)
    await removeDead(objects, key, dead)
    return quarantined ? { kind: 'kept' } : { kind: 'removed', bytes: size }
  }
}
