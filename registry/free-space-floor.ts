import { CodedError } from '../core/errors.ts'
import type { DataFile, DataFiles, DataStore, DataWriter, Storage } from './data-store.ts'

/** Looks after so many bytes of one object how much is left. */
const lookEveryBytes = 32 * 1024 * 1024

/**
 * The same storage, which takes no more data where fewer than `minFreeBytes` would stay free: on a
 * disk that is quite full not even a deletion can be recorded. Writers notice within 32 MiB.
 */
export function keepFree(storage: Storage, minFreeBytes: number): Storage {
  if (minFreeBytes === 0) return storage
  const { data, files } = storage
  const freeBytes = async (): Promise<number> => (await data.freeBytes()) - minFreeBytes

  async function requireFree(): Promise<void> {
    const left = await freeBytes()
    if (left >= 0) return
    throw new CodedError(
      'STORAGE_FULL',
      `cannot store more: no space left: ${left + minFreeBytes} bytes are free, of which ${minFreeBytes} stay free (minFree); free space or remove images, then retry`,
      { detail: { freeBytes: left + minFreeBytes, minFreeBytes } },
    )
  }

  return {
    ...storage,
    data: withFloor(data, freeBytes, requireFree),
    files: files && filesWithFloor(files, requireFree),
    [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose](),
  }
}

function withFloor(
  data: DataStore,
  freeBytes: () => Promise<number>,
  requireFree: () => Promise<void>,
): DataStore {
  return {
    async write(uuid, options): Promise<DataWriter> {
      await requireFree()
      const record: typeof options.record = async (checkpoint) => {
        await requireFree()
        await options.record(checkpoint)
      }
      return data.write(uuid, { ...options, record })
    },
    complete: (uuid, finished) => data.complete(uuid, finished),
    read: (where, range, signal) => data.read(where, range, signal),
    delete: (where) => data.delete(where),
    freeBytes,
    redirect: (where, options) => data.redirect(where, options),
  }
}

function filesWithFloor(files: DataFiles, requireFree: () => Promise<void>): DataFiles {
  function withFloorBelow(file: DataFile): DataFile {
    let sinceLook = 0
    return {
      path: file.path,
      async write(position, bytes) {
        sinceLook += bytes.length
        if (sinceLook >= lookEveryBytes) {
          await requireFree()
          sinceLook = 0
        }
        await file.write(position, bytes)
      },
      read: (position, buffer) => file.read(position, buffer),
      sync: () => file.sync(),
      follow: (options) => file.follow(options),
      [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
    }
  }
  return {
    async create(uuid) {
      await requireFree()
      return withFloorBelow(await files.create(uuid))
    },
    async open(uuid, size) {
      await requireFree()
      const file = await files.open(uuid, size)
      return file && withFloorBelow(file)
    },
  }
}
