import { constants } from 'node:fs'
import { open, statfs, unlink, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { hasErrno, toCodedError } from '../../core/errors.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import type { DataFile, DataStore } from '../data-store.ts'
import type { DurableFolders } from './durable-folders.ts'
import { keyPath } from './folder-objects.ts'

/** Large objects as files of `root`, hashed by threads of `hashPool`. */
export function createFolderData(
  root: string,
  { folders, hashPool }: { readonly folders: DurableFolders; readonly hashPool: HashPool },
): DataStore {
  function wrap(path: string, file: FileHandle): DataFile {
    let nameIsDurable = false
    return {
      async write(position, bytes) {
        try {
          for (let done = 0; done < bytes.length;) {
            const { bytesWritten } = await file.write(
              bytes,
              done,
              bytes.length - done,
              position + done,
            )
            done += bytesWritten
          }
        } catch (error) {
          throw toCodedError(error)
        }
      },
      async read(position, buffer) {
        let done = 0
        while (done < buffer.length) {
          const { bytesRead } = await file.read(buffer, done, buffer.length - done, position + done)
          if (bytesRead === 0) break
          done += bytesRead
        }
        return done
      },
      truncate: (size) => file.truncate(size),
      async sync() {
        try {
          await file.datasync()
          if (!nameIsDurable) await folders.sync(dirname(path))
        } catch (error) {
          throw toCodedError(error)
        }
        nameIsDurable = true
      },
      follow: (options) => hashPool.followFile(path, options),
      [Symbol.asyncDispose]: () => file.close(),
    }
  }

  return {
    async openForWrite(key) {
      const path = keyPath(root, key)
      try {
        await folders.ensure(dirname(path))
        return wrap(path, await open(path, constants.O_RDWR | constants.O_CREAT, 0o666))
      } catch (error) {
        throw toCodedError(error)
      }
    },
    async openForRead(key) {
      const path = keyPath(root, key)
      try {
        return wrap(path, await open(path, 'r'))
      } catch (error) {
        if (hasErrno(error, 'ENOENT')) return undefined
        throw error
      }
    },
    async delete(key) {
      const path = keyPath(root, key)
      try {
        await unlink(path)
        return true
      } catch (error) {
        if (hasErrno(error, 'ENOENT')) return false
        throw error
      }
    },
    async freeBytes() {
      const { bavail, bsize } = await statfs(root)
      return bavail * bsize
    },
  }
}
