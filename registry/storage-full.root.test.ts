import { execa } from 'execa'
import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../core/digest.ts'
import { createHashPool } from '../core/hash-pool.ts'
import { createLog } from '../core/log.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { openStore } from './store.ts'

const { signal } = new AbortController()

/** A file system of 32 MiB. */
async function mountSmall() {
  const folder = await createTempFolder()
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'tmpfs', folder.path])
  return {
    path: folder.path,
    async [Symbol.asyncDispose]() {
      await execa('umount', [folder.path])
      await folder[Symbol.asyncDispose]()
    },
  }
}

async function* megabytes(count: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i++) yield randomBytes(1024 * 1024)
}

describe('a full disk', () => {
  it('fails an import with STORAGE_FULL, gives the room back and takes the next one', async () => {
    await using disk = await mountSmall()
    await using hashPool = createHashPool({ threads: 1 })
    await using store = await openStore(disk.path, { hashPool, log: createLog('silent') })
    const { blobs } = store.registry.repository('a')
    const before = await store.freeBytes()
    const writer = await blobs.create({ signal })
    const write = async () => {
      for await (const chunk of megabytes(64)) await writer.write(chunk)
      await writer.finish()
    }
    await expect(write()).rejects.toMatchObject({ code: 'STORAGE_FULL' })
    await writer.abort()
    expect(await readdir(join(disk.path, 'scratch'))).toEqual([])
    expect(before - (await store.freeBytes())).toBeLessThan(100_000)

    const next = await blobs.create({ signal, expectedBytes: 1_000_000 })
    await next.write(randomBytes(1_000_000))
    const { digest } = await next.finish()
    await next.commit()
    expect(await blobs.stat(digest)).toEqual({ size: 1_000_000 })
  })

  it('keeps of an upload what was acknowledged, and lets it go on', async () => {
    await using disk = await mountSmall()
    await using hashPool = createHashPool({ threads: 1 })
    await using store = await openStore(disk.path, { hashPool, log: createLog('silent') })
    const bytes = randomBytes(2_000_000)
    async function* send(from: number, to: number): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(from, to)
    }
    const upload = await store.uploads.create('a')
    await upload.append({ bytes: send(0, 1_000_000), at: 0, expectedBytes: 0 })
    const tooMuch = { bytes: megabytes(64), at: 1_000_000, expectedBytes: 0 }
    await expect(upload.append(tooMuch)).rejects.toMatchObject({ code: 'STORAGE_FULL' })
    expect(upload.offset).toBe(1_000_000)
    const last = { bytes: send(1_000_000, 2_000_000), at: 1_000_000, expectedBytes: 0 }
    await upload.commit(digestOf(bytes), last)
    const { blobs } = store.registry.repository('a')
    expect(await blobs.stat(digestOf(bytes))).toEqual({ size: bytes.length })
  })
})
