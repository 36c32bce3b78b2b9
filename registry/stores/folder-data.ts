import { constants } from 'node:fs'
import { open, statfs, unlink, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CodedError, hasErrno, toCodedError } from '../../core/errors.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import type { DataFile, DataFiles, DataStore } from '../data-store.ts'
import { keys } from '../keys.ts'
import type { DurableFolders } from './durable-folders.ts'
import { createFolderWriter, type WritableFile } from './folder-writer.ts'
import type { WritePool } from './write-pool.ts'
import { keyPath } from './folder-objects.ts'
import { readAhead } from './read-ahead.ts'

/** Linux takes three times the CPU time where 1 MiB is written at a time: its pages must adjoin. */
const writeBytes = 256 * 1024

export interface FolderDataDeps {
  readonly folders: DurableFolders
  readonly hashPool: HashPool
  readonly writePool: WritePool
}

/** Large objects as files of `root`, hashed by threads of `hashPool`. */
export function createFolderData(
  root: string,
  { folders, hashPool, writePool }: FolderDataDeps,
): { readonly data: DataStore; readonly files: DataFiles } {
  const pathOf = (uuid: string): string => keyPath(root, keys.data(uuid))

  /** Writes and syncs; the first sync makes the file's name durable too. */
  function wrap(path: string, file: FileHandle): DataFile {
    let nameIsDurable = false
    return {
      path,
      async write(position, bytes) {
        try {
          await writeFully(file, position, bytes)
        } catch (error) {
          throw toCodedError(error)
        }
      },
      read: (position, buffer) => readFully(file, position, buffer),
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

  async function openForWrite(path: string): Promise<FileHandle> {
    try {
      await folders.ensure(dirname(path))
      return await open(path, constants.O_RDWR | constants.O_CREAT, 0o666)
    } catch (error) {
      throw toCodedError(error)
    }
  }

  const data: DataStore = {
    async write(uuid, options) {
      const path = pathOf(uuid)
      const handle = await openForWrite(path)
      const file: WritableFile = {
        ...wrap(path, handle),
        truncate: (size) => handle.truncate(size),
        async writeHashed(position, bytes, hash) {
          try {
            await writePool.run({ fd: handle.fd, position, bytes, hash })
          } catch (error) {
            throw toCodedError(error)
          }
        },
      }
      try {
        const { offset = 0 } = options.from ?? {}
        const { size } = await handle.stat()
        if (size < offset) throw cutOff(uuid, size, offset)
        // What was written after the checkpoint is not known to be complete.
        await handle.truncate(offset)
        return await createFolderWriter(file, options)
      } catch (error) {
        await handle.close()
        throw error
      }
    },
    async complete(uuid, { offset }) {
      await using file = await openForRead(pathOf(uuid))
      if (!file) return undefined
      const { size } = await file.stat()
      if (size < offset) throw cutOff(uuid, size, offset)
      return { data: uuid }
    },
    async *read(where, range, signal) {
      signal.throwIfAborted()
      await using file = await openForRead(pathOf(where.data))
      if (!file) throw new CodedError('UNKNOWN', `the data object ${where.data} is missing`)
      yield* readAhead(range, signal, async (position, buffer) => {
        const got = await readFully(file, position, buffer)
        if (got < buffer.length) throw cutOff(where.data, position + got, range.end)
      })
    },
    async delete(where) {
      try {
        await unlink(pathOf(where.data))
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
    redirect: async () => undefined,
  }
  const files: DataFiles = {
    async create(uuid) {
      const path = pathOf(uuid)
      return wrap(path, await openForWrite(path))
    },
    async open(uuid, size) {
      const path = pathOf(uuid)
      const file = await openForWrite(path)
      if ((await file.stat()).size >= size) {
        await file.truncate(size)
        return wrap(path, file)
      }
      await file.close()
      return undefined
    },
  }
  return { data, files }
}

function cutOff(uuid: string, size: number, needed: number): CodedError {
  return new CodedError('UNKNOWN', `the data object ${uuid} ends at ${size}, before ${needed}`)
}

async function openForRead(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/** A disk that fills up takes a part first and refuses the rest. */
async function writeFully(file: FileHandle, position: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const length = Math.min(writeBytes, bytes.length - done)
    const { bytesWritten } = await file.write(bytes, done, length, position + done)
    done += bytesWritten
  }
}

/** Fewer than asked for at the end of the file. */
async function readFully(file: FileHandle, position: number, into: Uint8Array): Promise<number> {
  let done = 0
  while (done < into.length) {
    const { bytesRead } = await file.read(into, done, into.length - done, position + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}
