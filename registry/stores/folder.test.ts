import { randomUUID } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { digestHex, digestOf } from '../../core/digest.ts'
import { createHashPool } from '../../core/hash-pool.ts'
import { dataStoreContract } from '../../test/data-store-contract.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
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

async function textOf({ objects }: Storage, key: string): Promise<string | undefined> {
  const found = await objects.get(key)
  return found && Buffer.from(found.bytes).toString()
}

describe('small objects of a folder', () => {
  it('answers what was put last, and undefined for what is not there', async () => {
    await using store = await openTempFolder()
    expect(await store.objects.get('v1/a/b')).toBeUndefined()
    expect(await store.objects.put('v1/a/b', bytes('one'), 'always')).toBeTypeOf('string')
    await store.objects.put('v1/a/b', bytes('two'), 'always')
    expect(await textOf(store, 'v1/a/b')).toBe('two')
    expect(await store.objects.get('v1/a')).toBeUndefined()
    expect(await store.objects.get('v1/a/b/c')).toBeUndefined()
  })

  it('puts only where nothing is, if asked to', async () => {
    await using store = await openTempFolder()
    const puts = ['one', 'two', 'three'].map((text) =>
      store.objects.put('v1/a', bytes(text), 'ifAbsent'),
    )
    const etags = await Promise.all(puts)
    expect(etags.filter((etag) => etag !== undefined)).toHaveLength(1)
    expect(await textOf(store, 'v1/a')).toBe('one')
  })

  it('puts only over the version named, if asked to', async () => {
    await using store = await openTempFolder()
    const first = (await store.objects.put('v1/a', bytes('0'), 'always')) ?? ''
    expect(await store.objects.put('v1/b', bytes('0'), { ifMatch: first })).toBeUndefined()
    const increments = Array.from({ length: 10 }, async () => {
      for (;;) {
        const found = await store.objects.get('v1/a')
        const next = bytes(String(Number(Buffer.from(found?.bytes ?? []).toString()) + 1))
        const ifMatch = found?.etag ?? ''
        if ((await store.objects.put('v1/a', next, { ifMatch })) !== undefined) return
      }
    })
    await Promise.all(increments)
    expect(await textOf(store, 'v1/a')).toBe('10')
    expect(await store.objects.put('v1/a', bytes('x'), { ifMatch: first })).toBeUndefined()
  })

  it('deletes once', async () => {
    await using store = await openTempFolder()
    await store.objects.put('v1/a', bytes(''), 'always')
    expect(await store.objects.delete('v1/a')).toBe(true)
    expect(await store.objects.delete('v1/a')).toBe(false)
    expect(await store.objects.delete('v1/none/a')).toBe(false)
  })

  it('lists keys at any depth in byte order, in pages', async () => {
    await using store = await openTempFolder()
    const keys = ['v1/f/a-b', 'v1/f/a.c/x', 'v1/f/a/b', 'v1/f/a/c/d', 'v1/f/a0', 'v1/f/b']
    for (const key of keys.toReversed()) await store.objects.put(key, bytes(''), 'always')
    await store.objects.put('v1/g', bytes(''), 'always')
    expect(await store.objects.list('v1/f/', {})).toEqual(keys)
    for (const [index, after] of keys.entries()) {
      const page = await store.objects.list('v1/f/', { after, limit: 2 })
      expect(page).toEqual(keys.slice(index + 1, index + 3))
    }
    expect(await store.objects.list('v1/f/', { limit: 0 })).toEqual([])
    expect(await store.objects.list('v1/none/', {})).toEqual([])
    expect(await store.objects.listFolders('v1/f/')).toEqual(['a.c', 'a'])
  })

  it('refuses keys that would leave the folder', async () => {
    await using store = await openTempFolder()
    for (const key of ['../a', 'a/../../b', '/etc/passwd', 'a//b', '', 'a/', './a', 'a\0']) {
      await expect(store.objects.get(key)).rejects.toMatchObject({ code: 'UNKNOWN' })
    }
  })

  it('leaves no scratch files', async () => {
    await using store = await openTempFolder()
    await store.objects.put('v1/a', bytes(''), 'always')
    await store.objects.put('v1/a', bytes(''), 'ifAbsent')
    await store.objects.put('v1/a', bytes(''), { ifMatch: 'x' })
    expect(await readdir(join(store.path, 'scratch'))).toEqual([])
  })
})

dataStoreContract('a folder', openTempFolder)

describe('data files of a folder', () => {
  it('are written anywhere, read back, and hashed as they grow', async () => {
    await using store = await openTempFolder()
    await using file = await store.files?.create(randomUUID())
    if (!file) throw new Error('a folder is made of files')
    using hash = file.follow({ start: 4, algorithm: 'sha256' })
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
