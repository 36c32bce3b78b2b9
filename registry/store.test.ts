import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../core/digest.ts'
import { createHashPool } from '../core/hash-pool.ts'
import { createLog } from '../core/log.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { registryContract } from '../test/registry-contract.ts'
import { openStore, type Store } from './store.ts'
import type { UploadBody } from './upload.ts'

const log = createLog('silent')
const { signal } = new AbortController()

async function openAt(path: string, uploadIdleLimitMs = 60_000): Promise<Store> {
  const hashPool = createHashPool({ threads: 1 })
  const store = await openStore(path, { hashPool, log, uploadIdleLimitMs })
  return {
    ...store,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      await hashPool[Symbol.asyncDispose]()
    },
  }
}

/** Files below a folder, with their paths relative to it. */
async function filesIn(path: string): Promise<string[]> {
  const found = await readdir(path, { recursive: true, withFileTypes: true })
  return found.filter((entry) => entry.isFile()).map(({ name, parentPath }) => join(parentPath, name))
}

async function* chunksOf(bytes: Uint8Array, size = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const bodyOf = (bytes: Uint8Array, at?: number): UploadBody => ({
  bytes: chunksOf(bytes),
  at,
  expectedBytes: bytes.length,
})

async function readBlob(store: Store, name: string, bytes: Uint8Array): Promise<Buffer> {
  const chunks: Buffer[] = []
  const { blobs } = store.registry.repository(name)
  for await (const chunk of blobs.read(digestOf(bytes), { signal })) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

registryContract('a folder', async () => {
  const folder = await createTempFolder()
  const store = await openAt(folder.path)
  return {
    ...store,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
})

describe('openStore', () => {
  it('makes the folder and its parents, and opens it again', async () => {
    await using folder = await createTempFolder()
    const path = join(folder.path, 'a', 'b')
    await (await openAt(path))[Symbol.asyncDispose]()
    await using store = await openAt(path)
    expect(await store.registry.listRepositories({})).toEqual([])
  })

  it('takes a fresh mount point', async () => {
    await using folder = await createTempFolder()
    await mkdir(join(folder.path, 'lost+found'))
    await using store = await openAt(folder.path)
    expect(await store.freeBytes()).toBeGreaterThan(0)
  })

  it('refuses a folder that holds something else, leaving it as it is', async () => {
    await using folder = await createTempFolder()
    await writeFile(join(folder.path, 'thesis.txt'), 'x')
    await expect(openAt(folder.path)).rejects.toMatchObject({ code: 'LAYOUT_UNKNOWN' })
    expect(await readdir(folder.path)).toEqual(['thesis.txt'])
  })

  it('refuses a layout it does not know, and lets go of the folder', async () => {
    await using folder = await createTempFolder()
    await writeFile(join(folder.path, 'layout.json'), '{"layout":2}')
    await expect(openAt(folder.path)).rejects.toMatchObject({ code: 'LAYOUT_UNKNOWN' })
    await writeFile(join(folder.path, 'layout.json'), '{"layout":1}')
    await using store = await openAt(folder.path)
    expect(store.uploads.openCount).toBe(0)
  })

  it('refuses a second owner while the first has it', async () => {
    await using folder = await createTempFolder()
    await using first = await openAt(folder.path)
    await expect(openAt(folder.path)).rejects.toMatchObject({
      code: 'STORE_LOCKED',
      detail: { pid: process.pid },
    })
    expect(first.uploads.openCount).toBe(0)
  })
})

describe('a blob writer', () => {
  it('refuses a blob larger than the free storage before the start, with both figures', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const { blobs } = store.registry.repository('a')
    const expectedBytes = Number.MAX_SAFE_INTEGER
    const freeBytes: unknown = expect.any(Number)
    await expect(blobs.create({ signal, expectedBytes })).rejects.toMatchObject({
      code: 'STORAGE_FULL',
      detail: { neededBytes: expectedBytes, freeBytes },
    })
    expect(await filesIn(join(folder.path, 'scratch'))).toEqual([])
  })

  it('leaves nothing behind when it is aborted', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const writer = await store.registry.repository('a').blobs.create({ signal, reserveBytes: 4096 })
    await writer.write(randomBytes(2_000_000))
    await writer.abort()
    expect(await filesIn(join(folder.path, 'v1'))).toEqual([])
  })

  it('stops with the reason of its signal', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const stop = new AbortController()
    const writer = await store.registry.repository('a').blobs.create({ signal: stop.signal })
    stop.abort(new Error('no longer wanted'))
    await expect(writer.write(randomBytes(10))).rejects.toThrow('no longer wanted')
    await expect(writer.finish()).rejects.toThrow('no longer wanted')
    await writer.abort()
  })

  it('refuses a head that is not as long as it said, or has no room', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const { blobs } = store.registry.repository('a')
    const writer = await blobs.create({ signal, reserveBytes: 10 })
    const head = randomBytes(8)
    await expect(writer.prepend(11, chunksOf(head))).rejects.toMatchObject({ code: 'SIZE_INVALID' })
    await expect(writer.prepend(9, chunksOf(head))).rejects.toMatchObject({ code: 'SIZE_INVALID' })
    await expect(writer.prepend(7, chunksOf(head))).rejects.toMatchObject({ code: 'SIZE_INVALID' })
    await writer.abort()
  })

  it('stores the bytes of equal blobs once', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const bytes = randomBytes(100_000)
    for (const name of ['a', 'b', 'a']) {
      const writer = await store.registry.repository(name).blobs.create({ signal })
      await writer.write(bytes)
      await writer.finish()
      await writer.commit()
    }
    expect(await filesIn(join(folder.path, 'v1/data'))).toHaveLength(1)
    expect(await filesIn(join(folder.path, 'v1/refs'))).toHaveLength(2)
    expect(await filesIn(join(folder.path, 'v1/uploads'))).toEqual([])
  })

  it('works for the longest repository name', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const name = 'n'.repeat(255)
    const bytes = randomBytes(10)
    const upload = await store.uploads.create(name, 0)
    await upload.commit(digestOf(bytes), bodyOf(bytes))
    expect(await readBlob(store, name, bytes)).toEqual(bytes)
  })
})

describe('an upload', () => {
  it('goes on after a restart where the acknowledged bytes end', async () => {
    await using folder = await createTempFolder()
    const bytes = randomBytes(3_000_000)
    let id: string
    {
      await using store = await openAt(folder.path)
      const upload = await store.uploads.create('a', 0)
      await upload.append(bodyOf(bytes.subarray(0, 1_700_001)))
      id = upload.id
    }
    // What was never acknowledged may be in the file after a crash.
    const [data = ''] = await filesIn(join(folder.path, 'v1/data'))
    await writeFile(data, Buffer.concat([await readFile(data), randomBytes(5000)]))
    await using store = await openAt(folder.path)
    const upload = await store.uploads.open('a', id)
    expect(upload.offset).toBe(1_700_001)
    await upload.append(bodyOf(bytes.subarray(1_700_001, 2_000_000), 1_700_001))
    await upload.commit(digestOf(bytes), bodyOf(bytes.subarray(2_000_000)))
    expect((await readBlob(store, 'a', bytes)).equals(bytes)).toBe(true)
    await expect(store.uploads.open('a', id)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' })
  })

  it('refuses bytes that do not follow on, and goes on with those that do', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const bytes = randomBytes(100)
    const upload = await store.uploads.create('a', 0)
    await upload.append(bodyOf(bytes.subarray(0, 50), 0))
    const skipping = upload.append(bodyOf(bytes.subarray(60), 60))
    await expect(skipping).rejects.toMatchObject({ code: 'RANGE_INVALID', detail: { offset: 50 } })
    const again = upload.commit(digestOf(bytes), bodyOf(bytes.subarray(0, 50), 0))
    await expect(again).rejects.toMatchObject({ code: 'RANGE_INVALID' })
    await upload.commit(digestOf(bytes), bodyOf(bytes.subarray(50), 50))
    expect(await readBlob(store, 'a', bytes)).toEqual(bytes)
  })

  it('keeps what arrived of a body that breaks', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const bytes = randomBytes(1_000_000)
    const upload = await store.uploads.create('a', 0)
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 600_000)
      throw new Error('connection reset')
    }
    const sent = upload.append({ bytes: broken(), at: 0, expectedBytes: bytes.length })
    await expect(sent).rejects.toMatchObject({ code: 'BLOB_UPLOAD_INVALID' })
    expect(upload.offset).toBe(600_000)
    await upload.commit(digestOf(bytes), bodyOf(bytes.subarray(600_000), 600_000))
    expect((await readBlob(store, 'a', bytes)).equals(bytes)).toBe(true)
  })

  it('is as it was after a commit with the wrong digest', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const bytes = randomBytes(200_000)
    const upload = await store.uploads.create('a', 0)
    await upload.append(bodyOf(bytes.subarray(0, 100_000)))
    const wrong = upload.commit(digestOf(randomBytes(1)), bodyOf(bytes.subarray(100_000)))
    await expect(wrong).rejects.toMatchObject({ code: 'DIGEST_INVALID' })
    expect(upload.offset).toBe(100_000)
    await upload.commit(digestOf(bytes), bodyOf(bytes.subarray(100_000)))
    expect((await readBlob(store, 'a', bytes)).equals(bytes)).toBe(true)
  })

  it('can be committed by sha512, known only at the end', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const bytes = randomBytes(200_000)
    const digest = digestOf(bytes, 'sha512')
    const upload = await store.uploads.create('a', 0)
    await upload.append(bodyOf(bytes))
    expect(await upload.commit(digest, undefined)).toEqual({ size: bytes.length })
    expect(await store.registry.repository('a').blobs.stat(digest)).toEqual({ size: bytes.length })
  })

  it('takes one request at a time', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const upload = await store.uploads.create('a', 0)
    const gate = Promise.withResolvers<void>()
    async function* slow(): AsyncGenerator<Uint8Array> {
      await gate.promise
      yield randomBytes(10)
    }
    const first = upload.append({ bytes: slow(), at: undefined, expectedBytes: 0 })
    await expect(upload.append(bodyOf(randomBytes(5)))).rejects.toMatchObject({
      code: 'RANGE_INVALID',
    })
    gate.resolve()
    await first
    expect(upload.offset).toBe(10)
  })

  it('is known in its own repository only, and not after it is cancelled', async () => {
    await using folder = await createTempFolder()
    await using store = await openAt(folder.path)
    const upload = await store.uploads.create('a', 0)
    await upload.append(bodyOf(randomBytes(10)))
    const unknown = { code: 'BLOB_UPLOAD_UNKNOWN' }
    await expect(store.uploads.open('b', upload.id)).rejects.toMatchObject(unknown)
    await expect(store.uploads.open('a', '../../layout')).rejects.toMatchObject(unknown)
    await upload.cancel()
    await expect(store.uploads.open('a', upload.id)).rejects.toMatchObject(unknown)
    expect(await filesIn(join(folder.path, 'v1'))).toEqual([])
  })
})

describe('the sweep at the start', () => {
  it('removes client uploads that were idle for too long, and keeps the others', async () => {
    await using folder = await createTempFolder()
    {
      await using store = await openAt(folder.path)
      await (await store.uploads.create('a', 0)).append(bodyOf(randomBytes(10)))
    }
    await (await openAt(folder.path))[Symbol.asyncDispose]()
    expect(await filesIn(join(folder.path, 'v1/data'))).toHaveLength(1)
    await (await openAt(folder.path, -1))[Symbol.asyncDispose]()
    expect(await filesIn(join(folder.path, 'v1'))).toEqual([])
  })

  it('keeps the data that a crash left between the pointer and the link', async () => {
    await using folder = await createTempFolder()
    const bytes = randomBytes(1000)
    const digest = digestOf(bytes)
    {
      await using store = await openAt(folder.path)
      const upload = await store.uploads.create('a', 0)
      await upload.append(bodyOf(bytes))
      const session = join(folder.path, 'v1/uploads', `${upload.id}.json`)
      const record: unknown = JSON.parse(await readFile(session, 'utf8'))
      await upload.commit(digest, undefined)
      const crashed = { ...Object(record), committing: digest, owner: 'import' }
      await writeFile(session, JSON.stringify(crashed))
      await rm(join(folder.path, 'v1/repos'), { recursive: true })
    }
    await using store = await openAt(folder.path)
    expect(await filesIn(join(folder.path, 'v1/uploads'))).toEqual([])
    expect(await store.registry.repository('a').blobs.stat(digest)).toBeUndefined()
    const upload = await store.uploads.create('a', 0)
    await upload.commit(digest, bodyOf(bytes))
    expect(await readBlob(store, 'a', bytes)).toEqual(bytes)
  })

  it('goes on over a damaged session', async () => {
    await using folder = await createTempFolder()
    await (await openAt(folder.path))[Symbol.asyncDispose]()
    await mkdir(join(folder.path, 'v1/uploads'), { recursive: true })
    await writeFile(join(folder.path, 'v1/uploads/damaged.json'), '{')
    await using store = await openAt(folder.path)
    expect(store.uploads.openCount).toBe(0)
  })
})
