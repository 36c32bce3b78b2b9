import type { Dirent } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { LRUCache } from 'lru-cache'
import { hasErrno } from '../../core/errors.ts'

/** Names kept over all folders; a listing of ten thousand tags in pages reads the folder once. */
const mostNames = 500_000

/** Names in the folders of one store, which this process alone changes. */
export interface FolderListings {
  /**
   * Names in the folder at `path`, folders that `isFolder` accepts with a `/` behind them, in the
   * byte order of the keys they begin; none where there is no such folder. Not to be changed.
   */
  read(path: string): Promise<readonly string[]>
  /** A name has come to or gone from the folder of `path`, or a folder on the way there. */
  changed(path: string): void
}

/** For a key that is the folder of others, or below one that is not a folder, too. */
const absent = ['ENOENT', 'ENOTDIR', 'EISDIR']

/** `unlisted`: a folder whose names, at any depth, are read every time. */
export function createFolderListings({
  isFolderName,
  unlisted,
}: {
  readonly isFolderName: (name: string) => boolean
  readonly unlisted: string
}): FolderListings {
  const kept = new LRUCache<string, readonly string[]>({
    maxSize: mostNames,
    sizeCalculation: (names) => names.length + 1,
  })
  /** Folders being read, and whether they were changed meanwhile. */
  const reading = new Map<string, { stale: boolean }>()

  async function readNow(path: string): Promise<readonly string[]> {
    try {
      const found = await readdir(path, { withFileTypes: true })
      const isFolder = (entry: Dirent): boolean => entry.isDirectory() && isFolderName(entry.name)
      // Keys are ASCII, where the order of UTF-16 units is byte order.
      return found.map((entry) => (isFolder(entry) ? `${entry.name}/` : entry.name)).sort()
    } catch (error) {
      if (absent.some((code) => hasErrno(error, code))) return []
      throw error
    }
  }

  return {
    async read(path) {
      const known = kept.get(path)
      if (known) return known
      const look = reading.get(path) ?? { stale: false }
      reading.set(path, look)
      const names = await readNow(path)
      if (reading.get(path) === look) reading.delete(path)
      if (!look.stale && !path.startsWith(unlisted)) kept.set(path, names)
      return names
    },
    changed(path) {
      for (let at = dirname(path); at.length > 1; at = dirname(at)) {
        kept.delete(at)
        const look = reading.get(at)
        if (look) look.stale = true
        reading.delete(at)
      }
    },
  }
}
