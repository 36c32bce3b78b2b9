import { randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { createHashPool } from '../../core/hash-pool.ts'
import { createLog } from '../../core/log.ts'
import { heldBody } from '../../test/fixtures/held-body.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { filesIn, readBack, uploadBodyOf } from '../../test/fixtures/store-at.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { createStore, type Store } from '../store.ts'
import { openFolderStore } from '../stores/folder.ts'

/** Two stores on one storage, as in two processes, and what lies in it. */
async function openReplicas() {
  await using owned = new AsyncDisposableStack()
  const { path } = owned.use(await createTempFolder())
  const hashPool = owned.use(createHashPool({ threads: 1 }))
  const storage = owned.use(await openFolderStore(path, { hashPool }))
  const shared = { ...storage, isOwned: false, [Symbol.asyncDispose]: async () => {} }
  const deps = { hashPool, log: createLog('silent') }
  const one = owned.use(await createStore(shared, deps))
  const other = owned.use(await createStore(shared, deps))
  const stack = owned.move()
  return { path, one, other, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

const bytes = randomBytes(1_000_000)
const digest = digestOf(bytes)
const part = (from: number, to: number) => uploadBodyOf(bytes.subarray(from, to), from)
const unknown = { code: 'BLOB_UPLOAD_UNKNOWN' }

async function expectOneBlob(store: Store, path: string): Promise<void> {
  expect((await readBack(store, 'a', bytes)).equals(bytes)).toBe(true)
  expect(await filesIn(join(path, 'v1/data'))).toHaveLength(1)
  expect(await filesIn(join(path, 'v1/uploads'))).toEqual([])
}

describe('an upload served by two processes', () => {
  it('goes on in turns, wherever each request arrives', async () => {
    await using replicas = await openReplicas()
    const { id } = await replicas.one.uploads.create('a')
    const ends = [100_000, 100_001, 500_000, 700_000, 1_000_000]
    for (const [turn, end] of ends.entries()) {
      const store = turn % 2 === 0 ? replicas.other : replicas.one
      const upload = await store.uploads.open('a', id)
      await upload.append(part(ends[turn - 1] ?? 0, end))
      for (const reader of [replicas.one, replicas.other]) {
        const seen = await reader.uploads.open('a', id)
        await seen.refresh()
        expect(seen.offset).toBe(end)
      }
    }
    await (await replicas.one.uploads.open('a', id)).commit(digest, undefined)
    await expectOneBlob(replicas.other, replicas.path)
    const gone = await replicas.other.uploads.open('a', id)
    await expect(gone.refresh()).rejects.toMatchObject(unknown)
    await expect(gone.append(part(0, 10))).rejects.toMatchObject(unknown)
    await expect(replicas.other.uploads.open('a', id)).rejects.toMatchObject(unknown)
  })

  it('belongs to the newest request; the one before stops at its next word', async () => {
    await using replicas = await openReplicas()
    const stale = await replicas.one.uploads.create('a')
    await stale.append(part(0, 300_000))
    await using held = heldBody(bytes.subarray(300_000, 400_000), 300_000)
    const sent = refusalIn(stale.append(held.body))
    await held.reached
    const next = await replicas.other.uploads.open('a', stale.id)
    await next.append(part(300_000, 600_000))
    // Looking at it must not make the one that was overtaken the newest again.
    await stale.refresh()
    held.end()
    expect(await sent).toBe('RANGE_INVALID')
    await stale.refresh()
    expect(stale.offset).toBe(600_000)
    await stale.append(part(600_000, 1_000_000))
    await next.commit(digest, undefined)
    await expectOneBlob(replicas.one, replicas.path)
  })

  it('is committed once by the same request at both', async () => {
    await using replicas = await openReplicas()
    for (let round = 0; round < 10; round++) {
      const one = await replicas.one.uploads.create('a')
      await one.append(part(0, 1_000_000))
      const other = await replicas.other.uploads.open('a', one.id)
      const commits = [one.commit(digest, undefined), other.commit(digest, undefined)]
      const refusals = await Promise.all(commits.map(refusalIn))
      expect(refusals).toContain(undefined)
      // The other one may be too late: overtaken, or the session has ended.
      const tooLate = [undefined, 'RANGE_INVALID', 'BLOB_UPLOAD_UNKNOWN']
      expect(tooLate).toEqual(expect.arrayContaining(refusals))
      await expectOneBlob(replicas.one, replicas.path)
    }
  })

  it('ends everywhere when it is cancelled at one, also under the feet of a request', async () => {
    await using replicas = await openReplicas()
    const stale = await replicas.one.uploads.create('a')
    await using held = heldBody(bytes.subarray(0, 1000), 0)
    const sent = refusalIn(stale.append(held.body))
    await held.reached
    await (await replicas.other.uploads.open('a', stale.id)).cancel()
    held.end()
    expect(await sent).toBe('RANGE_INVALID')
    await expect(stale.append(part(1000, 2000))).rejects.toMatchObject(unknown)
    expect(await filesIn(join(replicas.path, 'v1'))).toEqual([])
  })

  it('is left alone by the sweep of another process while it is worked on', async () => {
    await using replicas = await openReplicas()
    const { blobs } = replicas.one.registry.repository('a')
    const { signal } = new AbortController()
    const writer = await blobs.create({ signal })
    await writer.write(bytes)
    await replicas.other.uploads.sweep({ importsAreDead: false })
    await writer.finish()
    await writer.commit()
    expect(await blobs.stat(digest)).toEqual({ size: bytes.length })
    await expectOneBlob(replicas.other, replicas.path)
  })

  it('says that it is worked on also while no bytes come', async () => {
    await using replicas = await openReplicas()
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    onTestFinished(() => void vi.useRealTimers())
    const { signal } = new AbortController()
    const writer = await replicas.one.registry.repository('a').blobs.create({ signal })
    const [session = ''] = await filesIn(join(replicas.path, 'v1/uploads'))
    const before = await readFile(session, 'utf8')
    vi.advanceTimersByTime(10 * 60 * 1000)
    await vi.waitFor(async () => expect(await readFile(session, 'utf8')).not.toBe(before))
    await writer.abort()
  })

  it('is removed by the sweep where the process that worked on it fell silent', async () => {
    await using replicas = await openReplicas()
    const { blobs } = replicas.one.registry.repository('a')
    const { signal } = new AbortController()
    const writer = await blobs.create({ signal })
    await writer.write(bytes)
    await writer.finish()
    const [name = ''] = await readdir(join(replicas.path, 'v1/uploads'))
    const session = join(replicas.path, 'v1/uploads', name)
    const record: unknown = JSON.parse(await readFile(session, 'utf8'))
    const at = new Date(Date.now() - 2 * 60 * 60 * 1000).toISOString()
    await writeFile(session, JSON.stringify({ ...Object(record), at }))
    await replicas.other.uploads.sweep({ importsAreDead: false })
    expect(await filesIn(join(replicas.path, 'v1'))).toEqual([])
    // It wakes up and must not make a blob of bytes that are gone.
    expect(await refusalIn(writer.commit())).toBe('RANGE_INVALID')
    await writer.abort().catch(() => {})
    expect(await blobs.stat(digest)).toBeUndefined()
  })
})
