import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import { createHashPool } from '../core/hash-pool.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { createBlobIndex } from './blob-index.ts'
import { keys } from './keys.ts'
import { linkRecord } from './records.ts'
import { openFolderStore } from './stores/folder.ts'
import { readVersioned, swap } from './versioned.ts'

const digest = digestOf(Buffer.from('a blob'))
const link = keys.link('some/repo', digest)
const bytes = { data: randomUUID(), offset: 0, size: 6 }
const accounts = { charge: async () => {}, discharge: async () => {} }

/** A real store whose first write of the link succeeds and then goes on with `after`. */
async function openStore(after: (objects: ObjectStore) => Promise<string | undefined>) {
  await using owned = new AsyncDisposableStack()
  const { path } = owned.use(await createTempFolder())
  const hashPool = owned.use(createHashPool({ threads: 1 }))
  const { objects } = owned.use(await openFolderStore(path, { hashPool, onLost: () => {} }))
  let isFirst = true
  const put: ObjectStore['put'] = async (key, value, condition) => {
    const etag = await objects.put(key, value, condition)
    if (key !== link || !isFirst) return etag
    isFirst = false
    return after(objects)
  }
  const stack = owned.move()
  const index = createBlobIndex({ ...objects, put }, { onUnlinked: () => {}, accounts })
  return { objects, index, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

async function references(objects: ObjectStore): Promise<string[]> {
  return objects.list(keys.references(digest), {})
}

describe('a link whose writing had no answer', () => {
  it('keeps its reference, and serves once it is asked for again', async () => {
    await using store = await openStore(() => {
      throw new CodedError('UNAVAILABLE', 'no answer')
    })
    await expect(store.index.commit('some/repo', digest, bytes)).rejects.toThrow('no answer')
    const found = await readVersioned(store.objects, linkRecord, link)
    const { nonce = '' } = found?.record ?? {}
    expect(await references(store.objects)).toEqual([keys.reference(digest, 'some/repo', nonce)])
    expect(await store.index.commit('some/repo', digest, bytes)).toBe(true)
    expect(await references(store.objects)).toHaveLength(1)
  })

  it('keeps its reference where somebody changed it before it was written again', async () => {
    await using store = await openStore(async (objects) => {
      const found = await readVersioned(objects, linkRecord, link)
      if (found) await swap(objects, link, { ...found.record, rev: 7 }, found)
      return undefined
    })
    expect(await store.index.commit('some/repo', digest, bytes)).toBe(true)
    expect((await readVersioned(store.objects, linkRecord, link))?.record.rev).toBe(7)
    expect(await references(store.objects)).toHaveLength(1)
  })
})
