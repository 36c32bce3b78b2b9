import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { hasErrno } from '../../core/errors.ts'

/** Most folders remembered as durable; forgetting one costs an fsync. */
const rememberedFolders = 10_000

/** Names written to a folder survive a power cut once it resolves. */
export async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r')
  await folder.sync()
}

export interface DurableFolders {
  /** Makes the folder and its parents below the root, each durable in its parent. */
  ensure(path: string): Promise<void>
  /** Like `syncFolder`; callers that come while one runs share the next one. */
  sync(path: string): Promise<void>
}

/** Folders below `root`, which exists. They are never removed while the store is open. */
export function createDurableFolders(root: string): DurableFolders {
  const durable = new Set<string>([root])
  const making = new Map<string, Promise<void>>()
  const syncing = new Map<string, { running: Promise<void>; next: Promise<void> | undefined }>()

  async function make(path: string): Promise<void> {
    const parent = dirname(path)
    await ensure(parent)
    try {
      await mkdir(path)
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error
    }
    // Also where it exists already: whoever made it may not have come to this line.
    await syncFolder(parent)
    if (durable.size >= rememberedFolders) durable.clear()
    durable.add(root).add(path)
  }

  async function ensure(path: string): Promise<void> {
    if (durable.has(path)) return
    const made = making.get(path) ?? make(path)
    making.set(path, made)
    try {
      await made
    } finally {
      making.delete(path)
    }
  }

  function start(path: string): Promise<void> {
    const running = syncFolder(path).finally(() => {
      if (syncing.get(path)?.running === running) syncing.delete(path)
    })
    syncing.set(path, { running, next: undefined })
    return running
  }

  return {
    ensure,
    sync(path) {
      const current = syncing.get(path)
      if (!current) return start(path)
      // The running one may have begun before the caller's name was there; the next has not.
      current.next ??= current.running.then(
        () => start(path),
        () => start(path),
      )
      return current.next
    },
  }
}
