import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../core/digest.ts'
import { createHashPool } from '../core/hash-pool.ts'
import { createLog } from '../core/log.ts'
import { chunksOf, filesIn, readBack } from '../test/fixtures/store-at.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { registryContract } from '../test/registry-contract.ts'
import { createStore } from './store.ts'
import { openFolderStore } from './stores/folder.ts'

const { signal } = new AbortController()

/** A store on storage that is only written in order, as a bucket is. */
async function openOrdered() {
  await using owned = new AsyncDisposableStack()
  const { path } = owned.use(await createTempFolder())
  const hashPool = owned.use(createHashPool({ threads: 1 }))
  const scratchFolder = join(path, 'scratch of imports')
  await mkdir(scratchFolder)
  const storage = await openFolderStore(join(path, 'data'), { hashPool })
  const ordered = { ...storage, files: undefined }
  const store = owned.use(
    await createStore(ordered, { hashPool, log: createLog('silent'), scratchFolder }),
  )
  const stack = owned.move()
  return { ...store, path, scratchFolder, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

registryContract('storage that is only written in order', openOrdered)

describe('a blob on storage that is only written in order', () => {
  it('is kept beside it where its first bytes come last, and leaves nothing there', async () => {
    await using store = await openOrdered()
    const { blobs } = store.registry.repository('a')
    const [head, rest] = [randomBytes(5000), randomBytes(3_000_000)]
    const bytes = Buffer.concat([head, rest])
    for (const ends of ['committed', 'committed again', 'aborted']) {
      const pushed: number[] = []
      const onPush = (count: number): void => void pushed.push(count)
      const writer = await blobs.create({ signal, reserveBytes: 8192, onPush })
      for await (const chunk of chunksOf(rest)) await writer.write(chunk)
      await writer.prepend(head.length, chunksOf(head))
      expect(await writer.finish()).toMatchObject({
        digest: digestOf(bytes),
        size: bytes.length,
        scratchBytes: bytes.length,
      })
      expect(await filesIn(store.scratchFolder)).toHaveLength(1)
      if (ends === 'aborted') await writer.abort()
      else await writer.commit()
      expect(await filesIn(store.scratchFolder)).toEqual([])
      // What the repository has already is not sent.
      expect(pushed.at(-1)).toBe(ends === 'committed' ? bytes.length : undefined)
    }
    expect(await readBack(store, 'a', bytes)).toEqual(bytes)
    expect(await filesIn(join(store.path, 'data/v1/data'))).toHaveLength(1)
    expect(await filesIn(join(store.path, 'data/v1/uploads'))).toEqual([])
  })

  it('goes straight there where it is written from its first byte on', async () => {
    await using store = await openOrdered()
    const { blobs } = store.registry.repository('a')
    const bytes = randomBytes(3_000_000)
    const writer = await blobs.create({ signal })
    for await (const chunk of chunksOf(bytes)) await writer.write(chunk)
    expect(await writer.finish()).toMatchObject({ digest: digestOf(bytes), scratchBytes: 0 })
    expect(await filesIn(store.scratchFolder)).toEqual([])
    await writer.abort()
    await writer.abort()
    expect(await filesIn(join(store.path, 'data/v1'))).toEqual([])
  })
})
