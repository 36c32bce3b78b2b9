import { randomUUID } from 'node:crypto'
import type { ObjectStore } from '../core/object-store.ts'

const folder = 'v1/runners/'
/** A process that has not been heard of for so long is dead. */
const silentMs = 45_000

/** The processes that run imports on one store. */
export interface Runners {
  /** This process; a new one with every start. */
  readonly id: string
  /** Lets the others know that this process lives. */
  beat(): Promise<void>
  /**
   * Those that live, this one among them. A process is taken for dead once its record has stood
   * still for 45 s of this process's own time: clocks are never compared.
   */
  living(): Promise<ReadonlySet<string>>
  /** This process runs nothing any more. */
  leave(): Promise<void>
}

export function createRunners(objects: ObjectStore, silentForMs = silentMs): Runners {
  const id = randomUUID()
  const seen = new Map<string, { readonly etag: string; readonly atMs: number }>()
  let beats = 0

  return {
    id,
    async beat() {
      const bytes = Buffer.from(JSON.stringify({ beats: ++beats }))
      await objects.put(`${folder}${id}.json`, bytes, 'always')
    },
    async living() {
      const living = new Set<string>([id])
      for (const key of await objects.list(folder, {})) {
        const other = key.slice(folder.length, -'.json'.length)
        const stored = await objects.get(key)
        if (!stored || other === id) continue
        const before = seen.get(other)
        const nowMs = performance.now()
        if (before?.etag !== stored.etag) seen.set(other, { etag: stored.etag, atMs: nowMs })
        const isSilent = before?.etag === stored.etag && nowMs - before.atMs >= silentForMs
        if (!isSilent) living.add(other)
        // Whoever comes later need not wait for it again.
        else await objects.delete(key, { ifMatch: stored.etag })
      }
      return living
    },
    async leave() {
      await objects.delete(`${folder}${id}.json`)
    },
  }
}
