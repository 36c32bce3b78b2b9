import { randomUUID } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { digestHex, digestOf } from '../../core/digest.ts'
import { createHashPool } from '../../core/hash-pool.ts'
import { dataStoreContract } from '../../test/data-store-contract.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { objectStoreContract } from '../../test/object-store-contract.ts'
import type { Storage } from '../data-store.ts'
import { openFolderStore } from './folder.ts'

const record = async (): Promise<void> => {}
const bytes = (text: string): Uint8Array => Buffer.from(text)

async function openTempFolder(): Promise<Storage & { readonly path: string }> {
  const folder = await createTempFolder()
  const hashPool = createHashPool({ threads: 1 })
  const store = await openFolderStore(folder.path, { hashPool })
  return {
    ...store,
    path: folder.path,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      await hashPool[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

objectStoreContract('a folder', openTempFolder)
dataStoreContract('a folder', openTempFolder)

describe('small objects of a folder', () => {
  it('leaves no scratch files', async () => {
    await using store = await openTempFolder()
    await store.objects.put('v1/a', bytes(''), 'always')
    await store.objects.put('v1/a', bytes(''), 'ifAbsent')
    await store.objects.put('v1/a', bytes(''), { ifMatch: 'x' })
    expect(await readdir(join(store.path, 'scratch'))).toEqual([])
  })
})

describe('data files of a folder', () => {
  it('are written anywhere, read back, and hashed as they grow', async () => {
    await using store = await openTempFolder()
    await using file = await store.files?.create(randomUUID())
    if (!file) throw new Error('a folder is made of files')
    await using hash = file.follow({ start: 4, algorithm: 'sha256' })
    await file.write(4, bytes('behind'))
    hash.advance(10)
    await file.write(0, bytes('head'))
    await file.sync()
    const buffer = Buffer.alloc(20)
    expect(await file.read(0, buffer)).toBe(10)
    expect(buffer.subarray(0, 10).toString()).toBe('headbehind')
    const { hex } = await hash.finish(10)
    expect(hex).toBe(digestHex(digestOf(bytes('behind'))))
  })

  it('are not gone on with where bytes that were durable are missing', async () => {
    await using store = await openTempFolder()
    const from = { offset: 10 }
    const writing = store.data.write(randomUUID(), { from, algorithm: 'sha256', record })
    await expect(writing).rejects.toMatchObject({ code: 'UNKNOWN' })
  })
})
