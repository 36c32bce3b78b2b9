import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../core/digest.ts'
import {
  chunksOf,
  filesIn,
  openStoreAt,
  readBack,
  uploadBodyOf,
} from '../test/fixtures/store-at.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { registryContract } from '../test/registry-contract.ts'

const { signal } = new AbortController()

registryContract('a folder', async () => {
  const folder = await createTempFolder()
  const store = await openStoreAt(folder.path)
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
    await (await openStoreAt(path))[Symbol.asyncDispose]()
    await using store = await openStoreAt(path)
    expect(await store.registry.listRepositories({})).toEqual([])
  })

  it('takes a fresh mount point', async () => {
    await using folder = await createTempFolder()
    await mkdir(join(folder.path, 'lost+found'))
    await using store = await openStoreAt(folder.path)
    expect(await store.freeBytes()).toBeGreaterThan(0)
  })

  it('refuses a folder that holds something else, leaving it as it is', async () => {
    await using folder = await createTempFolder()
    await writeFile(join(folder.path, 'thesis.txt'), 'x')
    await expect(openStoreAt(folder.path)).rejects.toMatchObject({ code: 'LAYOUT_UNKNOWN' })
    expect(await readdir(folder.path)).toEqual(['thesis.txt'])
  })

  it('refuses a layout it does not know, and lets go of the folder', async () => {
    await using folder = await createTempFolder()
    await writeFile(join(folder.path, 'layout.json'), '{"layout":1}')
    await expect(openStoreAt(folder.path)).rejects.toMatchObject({
      code: 'LAYOUT_UNKNOWN',
      message: expect.stringContaining('CHANGELOG.md'),
    })
    await writeFile(join(folder.path, 'layout.json'), '{"layout":3}')
    await expect(openStoreAt(folder.path)).rejects.toMatchObject({ code: 'LAYOUT_UNKNOWN' })
    await writeFile(join(folder.path, 'layout.json'), '{"layout":2}')
    await using store = await openStoreAt(folder.path)
    expect(store.uploads.openCount).toBe(0)
  })

  it('refuses a second owner while the first has it', async () => {
    await using folder = await createTempFolder()
    await using first = await openStoreAt(folder.path)
    await expect(openStoreAt(folder.path)).rejects.toMatchObject({
      code: 'STORE_LOCKED',
      detail: { pid: process.pid },
    })
    expect(first.uploads.openCount).toBe(0)
  })
})

describe('a blob writer', () => {
  it('refuses a blob larger than the free storage before the start, with both figures', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
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
    await using store = await openStoreAt(folder.path)
    const writer = await store.registry.repository('a').blobs.create({ signal, reserveBytes: 4096 })
    await writer.write(randomBytes(2_000_000))
    await writer.abort()
    expect(await filesIn(join(folder.path, 'v1'))).toEqual([])
  })

  it.each([0, 4096])('goes on after a restart, with %d bytes of room before it', async (room) => {
    await using folder = await createTempFolder()
    const bytes = randomBytes(3_000_000)
    const options = { signal, reserveBytes: room, chunkDigests: true }
    let resume: string | undefined
    for (const [start, end] of [
      [0, 0],
      [0, 1_000_000],
      [1_000_000, 2_000_001],
    ]) {
      // Every start looks for what dead imports left.
      await using store = await openStoreAt(folder.path)
      const writer = await store.registry.repository('a').blobs.create({ ...options, resume })
      await writer.write(bytes.subarray(start, end))
      resume = await writer.checkpoint?.()
      // What is written behind a checkpoint is lost.
      await writer.write(randomBytes(500_000))
      await writer.abort({ keep: true })
    }
    await using store = await openStoreAt(folder.path)
    const { blobs } = store.registry.repository('a')
    const writer = await blobs.create({ ...options, resume })
    await writer.write(bytes.subarray(2_000_001))
    const joint = Buffer.from(await writer.readAt(1_999_999, 4))
    expect(joint.equals(bytes.subarray(1_999_999, 2_000_003))).toBe(true)
    const { digest, chunkDigests } = await writer.finish()
    await writer.commit()
    expect(digest).toBe(digestOf(bytes))
    expect(chunkDigests).toHaveLength(32)
    expect(await blobs.stat(digest)).toEqual({ size: bytes.length })
  })

  it('goes on with nothing that is gone, of another repository or of another shape', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const { blobs } = store.registry.repository('a')
    const writer = await blobs.create({ signal })
    await writer.write(randomBytes(1000))
    const resume = await writer.checkpoint?.()
    await writer.abort({ keep: true })
    const refused = { code: 'BLOB_UPLOAD_UNKNOWN' }
    const other = store.registry.repository('b').blobs
    await expect(other.create({ signal, resume })).rejects.toMatchObject(refused)
    await expect(blobs.create({ signal, resume, reserveBytes: 1 })).rejects.toMatchObject(refused)
    await expect(blobs.create({ signal, resume: '{}' })).rejects.toMatchObject(refused)
    await (await blobs.create({ signal, resume })).abort()
    await expect(blobs.create({ signal, resume })).rejects.toMatchObject(refused)
    expect(await filesIn(join(folder.path, 'v1'))).toEqual([])
  })

  it('stops with the reason of its signal', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const stop = new AbortController()
    const writer = await store.registry.repository('a').blobs.create({ signal: stop.signal })
    stop.abort(new Error('no longer wanted'))
    await expect(writer.write(randomBytes(10))).rejects.toThrow('no longer wanted')
    await expect(writer.finish()).rejects.toThrow('no longer wanted')
    await writer.abort()
  })

  it('refuses a head that is not as long as it said, or has no room', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
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
    await using store = await openStoreAt(folder.path)
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
    await using store = await openStoreAt(folder.path)
    const name = 'n'.repeat(255)
    const bytes = randomBytes(10)
    const upload = await store.uploads.create(name)
    await upload.commit(digestOf(bytes), uploadBodyOf(bytes))
    expect(await readBack(store, name, bytes)).toEqual(bytes)
  })
})

describe('the sweep at the start', () => {
  it('removes client uploads that were idle for too long, and keeps the others', async () => {
    await using folder = await createTempFolder()
    {
      await using store = await openStoreAt(folder.path)
      await (await store.uploads.create('a')).append(uploadBodyOf(randomBytes(10)))
    }
    await (await openStoreAt(folder.path))[Symbol.asyncDispose]()
    expect(await filesIn(join(folder.path, 'v1/data'))).toHaveLength(1)
    await (await openStoreAt(folder.path, -1))[Symbol.asyncDispose]()
    expect(await filesIn(join(folder.path, 'v1'))).toEqual([])
  })

  it('goes on with a commit that a crash left between the pointer and the link', async () => {
    await using folder = await createTempFolder()
    const bytes = randomBytes(1000)
    const digest = digestOf(bytes)
    {
      await using store = await openStoreAt(folder.path)
      const upload = await store.uploads.create('a')
      await upload.append(uploadBodyOf(bytes))
      const session = join(folder.path, 'v1/uploads', `${upload.id}.json`)
      const record: unknown = JSON.parse(await readFile(session, 'utf8'))
      await upload.commit(digest, undefined)
      const blob = { digest, offset: 0, size: bytes.length }
      const crashed = { ...Object(record), state: 'committing', blob, owner: 'import' }
      await writeFile(session, JSON.stringify(crashed))
      await rm(join(folder.path, 'v1/repos'), { recursive: true })
    }
    await using store = await openStoreAt(folder.path)
    expect(await filesIn(join(folder.path, 'v1/uploads'))).toEqual([])
    expect(await filesIn(join(folder.path, 'v1/data'))).toHaveLength(1)
    expect(await readBack(store, 'a', bytes)).toEqual(bytes)
  })

  it('goes on over a damaged session', async () => {
    await using folder = await createTempFolder()
    await (await openStoreAt(folder.path))[Symbol.asyncDispose]()
    await mkdir(join(folder.path, 'v1/uploads'), { recursive: true })
    await writeFile(join(folder.path, 'v1/uploads/damaged.json'), '{')
    await using store = await openStoreAt(folder.path)
    expect(store.uploads.openCount).toBe(0)
  })
})
