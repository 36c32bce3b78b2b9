import { randomBytes, randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { createHashPool } from '../core/hash-pool.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import type { Storage } from './data-store.ts'
import { keepFree } from './free-space-floor.ts'
import { openFolderStore } from './stores/folder.ts'

const mib = 1024 * 1024

/** A folder whose free space is what `free` says, with a floor of 100 bytes. */
async function openSmall(free: () => number) {
  await using owned = new AsyncDisposableStack()
  const { path } = owned.use(await createTempFolder())
  const hashPool = owned.use(createHashPool({ threads: 1 }))
  const storage = owned.use(await openFolderStore(path, { hashPool, onLost: () => {} }))
  const small: Storage = { ...storage, data: { ...storage.data, freeBytes: async () => free() } }
  const stack = owned.move()
  const { data, files } = keepFree(small, 100)
  return { data, files, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

const full = { code: 'STORAGE_FULL', detail: { minFreeBytes: 100 } }

it('counts what stays free as not there', async () => {
  await using storage = await openSmall(() => 1000)
  expect(await storage.data.freeBytes()).toBe(900)
})

it('begins no data below the floor', async () => {
  await using storage = await openSmall(() => 99)
  const options = { algorithm: 'sha256', record: async () => {} } as const
  await expect(storage.data.write(randomUUID(), options)).rejects.toMatchObject(full)
  await expect(storage.files?.create(randomUUID())).rejects.toMatchObject(full)
})

it('stops data of unknown length soon after it has come to the floor', async () => {
  let free = 1000
  await using storage = await openSmall(() => free)
  const recorded: number[] = []
  await using writer = await storage.data.write(randomUUID(), {
    algorithm: 'sha256',
    record: async ({ offset }) => void recorded.push(offset),
  })
  const chunk = randomBytes(8 * mib)
  const writeAll = async (): Promise<void> => {
    for (let written = 0; written < 256 * mib; written += chunk.length) {
      if (recorded.length > 0) free = 50
      await writer.write(chunk)
    }
  }
  await expect(writeAll()).rejects.toMatchObject(full)
  expect(writer.end).toBeLessThan(200 * mib)

  free = 1000
  await using file = await storage.files?.create(randomUUID())
  const writeFile = async (): Promise<void> => {
    for (let written = 0; written < 256 * mib; written += chunk.length) {
      if (written > 64 * mib) free = 50
      await file?.write(written, chunk)
    }
  }
  await expect(writeFile()).rejects.toMatchObject(full)
})

it('leaves storage without a floor as it is', async () => {
  await using folder = await createTempFolder()
  await using hashPool = createHashPool({ threads: 1 })
  await using storage = await openFolderStore(folder.path, { hashPool, onLost: () => {} })
  expect(keepFree(storage, 0)).toBe(storage)
})
