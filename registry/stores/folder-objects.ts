import { createHash, randomUUID } from 'node:crypto'
import { link, open, readFile, rename, rm, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { hasErrno, toCodedError } from '../../core/errors.ts'
import type { ListOptions, ObjectStore, PutCondition } from '../../core/object-store.ts'
import type { Lock } from '../lock.ts'
import { createSerial } from '../../core/serial.ts'
import type { DurableFolders } from './durable-folders.ts'
import { createFolderListings } from './folder-listings.ts'
import { checkKey, isKey } from './storage-key.ts'

/** The path of `key` in `root`; a key that would leave it is a fault of ours. */
export const keyPath = (root: string, key: string): string => join(root, checkKey(key))

/** Also for a key that is the folder of others, or below one that is not a folder. */
const isAbsent = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR', 'EISDIR'].some((code) => hasErrno(error, code))

const etagOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('base64url')

/**
 * Small objects as files of `root`, written beside it in `scratch` (same file system) and moved in
 * place. Conditions hold because one process owns the folder (`registry/lock.ts`).
 */
export function createFolderObjects(
  root: string,
  {
    scratch,
    folders,
    lock,
  }: {
    readonly scratch: string
    readonly folders: DurableFolders
    readonly lock: Pick<Lock, 'confirm'>
  },
): ObjectStore {
  const serial = createSerial()
  // A folder that no key can be in is not looked into; it is not ours. Data files come unannounced.
  const listings = createFolderListings({ isFolderName: isKey, unlisted: join(root, 'v1/data') })

  async function get(key: string) {
    try {
      const bytes = await readFile(keyPath(root, key))
      return { bytes, etag: etagOf(bytes) }
    } catch (error) {
      if (isAbsent(error)) return undefined
      throw error
    }
  }

  /** Moves the finished file to `path`; false where `ifAbsent` finds something there. */
  async function place(scratchPath: string, path: string, condition: PutCondition) {
    await lock.confirm()
    if (condition !== 'ifAbsent') {
      await rename(scratchPath, path)
      return true
    }
    try {
      await link(scratchPath, path)
      return true
    } catch (error) {
      if (hasErrno(error, 'EEXIST')) return false
      throw error
    } finally {
      await unlink(scratchPath)
    }
  }

  async function put(key: string, bytes: Uint8Array, condition: PutCondition) {
    const path = keyPath(root, key)
    if (typeof condition === 'object' && (await get(key))?.etag !== condition.ifMatch) {
      return undefined
    }
    const scratchPath = join(scratch, randomUUID())
    try {
      await folders.ensure(dirname(path))
      {
        await using file = await open(scratchPath, 'wx')
        await file.writeFile(bytes)
        await file.datasync()
      }
      if (!(await place(scratchPath, path, condition))) return undefined
      if (typeof condition !== 'object') listings.changed(path)
      await folders.sync(dirname(path))
      return etagOf(bytes)
    } catch (error) {
      await rm(scratchPath, { force: true })
      throw toCodedError(error)
    }
  }

  const entries = (folder: string): Promise<readonly string[]> =>
    listings.read(folder === '' ? root : keyPath(root, folder.slice(0, -1)))

  /** Appends the keys below `folder` in byte order until there are `limit` of them. */
  async function collect(folder: string, options: ListOptions, found: string[]): Promise<void> {
    const { after = '', limit = Infinity } = options
    for (const name of await entries(folder)) {
      if (found.length >= limit) return
      const key = folder + name
      if (!name.endsWith('/')) {
        if (key > after) found.push(key)
      } else if (key > after || after.startsWith(key)) {
        await collect(key, options, found)
      }
    }
  }

  return {
    get,
    put: (key, bytes, condition) => serial(key, () => put(key, bytes, condition)),
    async list(folder, options) {
      const found: string[] = []
      await collect(folder, options, found)
      return found
    },
    async listFolders(folder) {
      const names = await entries(folder)
      return names.filter((name) => name.endsWith('/')).map((name) => name.slice(0, -1))
    },
    conditionalDelete: true,
    delete: (key, condition) =>
      serial(key, async () => {
        const path = keyPath(root, key)
        try {
          if (condition && (await get(key))?.etag !== condition.ifMatch) return false
          await lock.confirm()
          await unlink(path)
          listings.changed(path)
        } catch (error) {
          if (isAbsent(error)) return false
          throw error
        }
        await folders.sync(dirname(path))
        return true
      }),
  }
}
