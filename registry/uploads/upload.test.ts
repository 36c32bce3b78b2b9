import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { heldBody } from '../../test/fixtures/held-body.ts'
import { filesIn, openStoreAt, readBack, uploadBodyOf } from '../../test/fixtures/store-at.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'

async function expectOvertaken(sent: Promise<void>, offset?: number): Promise<void> {
  const detail = offset === undefined ? {} : { detail: { offset } }
  await expect(sent).rejects.toMatchObject({ code: 'RANGE_INVALID', ...detail })
}

describe('an upload', () => {
  it('goes on after a restart where the acknowledged bytes end', async () => {
    await using folder = await createTempFolder()
    const bytes = randomBytes(3_000_000)
    let id: string
    {
      await using store = await openStoreAt(folder.path)
      const upload = await store.uploads.create('a')
      await upload.append(uploadBodyOf(bytes.subarray(0, 1_700_001)))
      id = upload.id
    }
    // What was never acknowledged may be in the file after a crash.
    const [data = ''] = await filesIn(join(folder.path, 'v1/data'))
    await writeFile(data, Buffer.concat([await readFile(data), randomBytes(5000)]))
    await using store = await openStoreAt(folder.path)
    const upload = await store.uploads.open('a', id)
    expect(upload.offset).toBe(1_700_001)
    await upload.append(uploadBodyOf(bytes.subarray(1_700_001, 2_000_000), 1_700_001))
    await upload.commit(digestOf(bytes), uploadBodyOf(bytes.subarray(2_000_000)))
    expect((await readBack(store, 'a', bytes)).equals(bytes)).toBe(true)
    await expect(store.uploads.open('a', id)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' })
  })

  it('refuses bytes that do not follow on, and goes on with those that do', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const bytes = randomBytes(100)
    const upload = await store.uploads.create('a')
    await upload.append(uploadBodyOf(bytes.subarray(0, 50), 0))
    const skipping = upload.append(uploadBodyOf(bytes.subarray(60), 60))
    await expect(skipping).rejects.toMatchObject({ code: 'RANGE_INVALID', detail: { offset: 50 } })
    const again = upload.commit(digestOf(bytes), uploadBodyOf(bytes.subarray(0, 50), 0))
    await expect(again).rejects.toMatchObject({ code: 'RANGE_INVALID' })
    await upload.commit(digestOf(bytes), uploadBodyOf(bytes.subarray(50), 50))
    expect(await readBack(store, 'a', bytes)).toEqual(bytes)
  })

  it('keeps what arrived of a body that breaks', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const bytes = randomBytes(1_000_000)
    const upload = await store.uploads.create('a')
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 600_000)
      throw new Error('connection reset')
    }
    const sent = upload.append({ bytes: broken(), at: 0, expectedBytes: bytes.length })
    await expect(sent).rejects.toMatchObject({ code: 'BLOB_UPLOAD_INVALID' })
    expect(upload.offset).toBe(600_000)
    await upload.commit(digestOf(bytes), uploadBodyOf(bytes.subarray(600_000), 600_000))
    expect((await readBack(store, 'a', bytes)).equals(bytes)).toBe(true)
  })

  it('is as it was after a commit with the wrong digest', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const bytes = randomBytes(200_000)
    const upload = await store.uploads.create('a')
    await upload.append(uploadBodyOf(bytes.subarray(0, 100_000)))
    const wrong = upload.commit(digestOf(randomBytes(32)), uploadBodyOf(bytes.subarray(100_000)))
    await expect(wrong).rejects.toMatchObject({ code: 'DIGEST_INVALID' })
    expect(upload.offset).toBe(100_000)
    await upload.commit(digestOf(bytes), uploadBodyOf(bytes.subarray(100_000)))
    expect((await readBack(store, 'a', bytes)).equals(bytes)).toBe(true)
  })

  it('can be committed by sha512, known only at the end', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const bytes = randomBytes(200_000)
    const digest = digestOf(bytes, 'sha512')
    const upload = await store.uploads.create('a')
    await upload.append(uploadBodyOf(bytes))
    await upload.commit(digest, undefined)
    expect(await store.registry.repository('a').blobs.stat(digest)).toEqual({ size: bytes.length })
  })

  it('gives way to a newer request, keeping what had arrived', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const bytes = randomBytes(100)
    const upload = await store.uploads.create('a')
    await using held = heldBody(bytes.subarray(0, 30))
    const overtaken = expectOvertaken(upload.append(held.body), 30)
    await held.reached
    const next = upload.append(uploadBodyOf(bytes.subarray(30, 60), 30))
    await Promise.all([overtaken, next])
    expect(upload.offset).toBe(60)
    await upload.commit(digestOf(bytes), uploadBodyOf(bytes.subarray(60), 60))
    expect(await readBack(store, 'a', bytes)).toEqual(bytes)
  })

  it('takes the newest of several that wait', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const bytes = randomBytes(100)
    const upload = await store.uploads.create('a')
    await using held = heldBody(bytes.subarray(0, 30))
    const overtaken = [expectOvertaken(upload.append(held.body), 30)]
    await held.reached
    for (let tries = 0; tries < 3; tries++) {
      const tried = upload.append(uploadBodyOf(bytes.subarray(30, 60), 30))
      overtaken.push(expectOvertaken(tried))
    }
    await upload.append(uploadBodyOf(bytes.subarray(30, 70), 30))
    await Promise.all(overtaken)
    await upload.commit(digestOf(bytes), uploadBodyOf(bytes.subarray(70), 70))
    expect(await readBack(store, 'a', bytes)).toEqual(bytes)
  })

  it('is not interrupted by a request that starts at bytes it has', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const bytes = randomBytes(100)
    const upload = await store.uploads.create('a')
    await upload.append(uploadBodyOf(bytes.subarray(0, 50)))
    await using held = heldBody(bytes.subarray(50))
    const sent = upload.append(held.body)
    await held.reached
    const repeated = upload.append(uploadBodyOf(bytes.subarray(0, 50), 0))
    await expect(repeated).rejects.toMatchObject({ code: 'RANGE_INVALID', detail: { offset: 50 } })
    held.end()
    await sent
    await upload.commit(digestOf(bytes), undefined)
    expect(await readBack(store, 'a', bytes)).toEqual(bytes)
  })

  it('follows sha512 from the start where that is known, and sha256 in its place', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    for (const followed of ['sha512', 'sha256'] as const) {
      for (const algorithm of ['sha512', 'sha256'] as const) {
        const bytes = randomBytes(70_000)
        const digest = digestOf(bytes, algorithm)
        const upload = await store.uploads.create('a', { algorithm: followed })
        await upload.append(uploadBodyOf(bytes.subarray(0, 30_000)))
        await upload.commit(digest, uploadBodyOf(bytes.subarray(30_000)))
        const { blobs } = store.registry.repository('a')
        expect(await blobs.stat(digest)).toEqual({ size: bytes.length })
      }
    }
  })

  it('is let go of after a pause, and goes on all the same', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const bytes = randomBytes(100)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const { id } = await store.uploads.create('a')
    for (const [start, end] of [
      [0, 40],
      [40, 100],
    ] as const) {
      await (await store.uploads.open('a', id)).append(uploadBodyOf(bytes.subarray(start, end)))
      expect(store.uploads.openCount).toBe(1)
      await vi.advanceTimersByTimeAsync(60_000)
      expect(store.uploads.openCount).toBe(0)
    }
    await (await store.uploads.open('a', id)).commit(digestOf(bytes), undefined)
    expect(await readBack(store, 'a', bytes)).toEqual(bytes)
  })

  it('is known in its own repository only, and not after it is cancelled', async () => {
    await using folder = await createTempFolder()
    await using store = await openStoreAt(folder.path)
    const upload = await store.uploads.create('a')
    await upload.append(uploadBodyOf(randomBytes(10)))
    const unknown = { code: 'BLOB_UPLOAD_UNKNOWN' }
    await expect(store.uploads.open('b', upload.id)).rejects.toMatchObject(unknown)
    await expect(store.uploads.open('a', '../../layout')).rejects.toMatchObject(unknown)
    await upload.cancel()
    await expect(store.uploads.open('a', upload.id)).rejects.toMatchObject(unknown)
    expect(await filesIn(join(folder.path, 'v1'))).toEqual([])
  })
})
