import { randomUUID } from 'node:crypto'
import { CodedError } from '../../core/errors.ts'
import type { DataStore } from '../data-store.ts'
import type { OpenSession, Reservations } from './sessions.ts'

/** Room is asked for in such steps where nobody said how many bytes come. */
const roomStepBytes = 64 * 1024 * 1024

/** Asks for a repository's room as bytes come. */
export function createRoom(
  { id, record: { repo } }: OpenSession,
  reservations: Reservations,
): { expect(bytes: number): Promise<void>; hold(bytes: number): Promise<void> } {
  let reserved = 0
  async function reserve(bytes: number): Promise<void> {
    await reservations.reserve({ id, repo }, bytes)
    reserved = bytes
  }
  return {
    /** The session will hold so many in all. */
    expect: reserve,
    /** So many are about to be held, expected or not. */
    async hold(bytes) {
      if (bytes <= reserved) return
      await reserve(bytes + roomStepBytes).catch(async (error: unknown) => {
        if (!(error instanceof CodedError) || error.code !== 'QUOTA_EXCEEDED') throw error
        // The last steps to a limit are as small as what comes.
        await reserve(bytes)
      })
    },
  }
}

/** Throws STORAGE_FULL where `bytes` more would not fit, saying both figures. */
export async function requireRoom(data: DataStore, bytes: number): Promise<void> {
  const free = Math.max(0, await data.freeBytes())
  if (bytes <= free) return
  throw new CodedError(
    'STORAGE_FULL',
    `cannot store ${bytes} bytes: the storage has ${free} bytes free; free space or remove images, then retry`,
    { detail: { neededBytes: bytes, freeBytes: free } },
  )
}

/** Throws QUOTA_EXCEEDED where the repository may not hold `bytes` more; nothing is reserved. */
export async function requireQuota(
  repo: string,
  bytes: number,
  reservations: Reservations,
): Promise<void> {
  const id = randomUUID()
  await reservations.reserve({ id, repo }, bytes)
  await reservations.release(id)
}
