import { writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { createHashPool } from '../../core/hash-pool.ts'
import { createLog } from '../../core/log.ts'
import { filesIn, readBack, uploadBodyOf } from '../../test/fixtures/store-at.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { indexOf, manifestOf } from '../../test/model/gc-world.ts'
import { defaultPolicy, openStore, type Store, type StorePolicy } from '../store.ts'

const graceMs = 400
const { signal } = new AbortController()

interface GcStore extends Store {
  readonly path: string
}

/** A real folder whose graces are short. */
async function openGcStore(policy: Partial<StorePolicy> = {}): Promise<GcStore> {
  await using owned = new AsyncDisposableStack()
  const { path } = owned.use(await createTempFolder())
  const hashPool = owned.use(createHashPool({ threads: 1 }))
  const log = createLog('silent')
  const options = { hashPool, log, policy: { ...defaultPolicy, graceMs, ...policy } }
  const store = owned.use(await openStore(path, options))
  const stack = owned.move()
  return { ...store, path, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

async function pushBlob(store: Store, name: string, bytes: Buffer): Promise<void> {
  const upload = await store.uploads.create(name, {})
  await upload.commit(digestOf(bytes), uploadBodyOf(bytes))
}

async function pushImage(store: Store, name: string, bytes: Buffer, tag: string) {
  await pushBlob(store, name, bytes)
  const image = manifestOf(bytes)
  await store.registry.repository(name).manifests.put(image, { tag, replace: true })
  return image
}

const dataFiles = (store: GcStore): Promise<string[]> => filesIn(`${store.path}/v1/data`)
const stat = (store: Store, name: string, bytes: Buffer) =>
  store.registry.repository(name).blobs.stat(digestOf(bytes))

describe('the collector', () => {
  it('gives back the space of a deleted image, all of it', async () => {
    await using store = await openGcStore()
    await pushImage(store, 'a', Buffer.from('{"n":1}'), 'v1')
    const { manifests } = store.registry.repository('a')
    await manifests.delete({ kind: 'tag', tag: 'v1' }, { reclaim: true })
    await store.gc.drained()
    expect(await dataFiles(store)).toEqual([])
    expect(await filesIn(`${store.path}/v1/blobs`)).toEqual([])
    expect(await filesIn(`${store.path}/v1/refs`)).toEqual([])
    expect(await filesIn(`${store.path}/v1/repos`)).toEqual([])
  })

  it('keeps what another tag, image or repository uses', async () => {
    await using store = await openGcStore()
    const [one, two] = [Buffer.from('{"n":1}'), Buffer.from('{"n":2}')]
    const image = await pushImage(store, 'a', one, 'v1')
    const { manifests } = store.registry.repository('a')
    await manifests.put(image, { tag: 'v2', replace: true })
    await pushImage(store, 'a', two, 'gone')
    await pushImage(store, 'b', two, 'v1')
    await manifests.delete({ kind: 'tag', tag: 'v1' }, { reclaim: true })
    await manifests.delete({ kind: 'tag', tag: 'gone' }, { reclaim: true })
    await store.gc.drained()
    expect(await manifests.get({ kind: 'tag', tag: 'v2' })).toBeDefined()
    expect(await stat(store, 'a', two)).toBeUndefined()
    expect(await readBack(store, 'b', two)).toEqual(two)
  })

  it('takes the children and referrers of an image with it, unless they are tagged', async () => {
    await using store = await openGcStore()
    const bytes = Buffer.from('{"n":1}')
    const child = await pushImage(store, 'a', bytes, 'child')
    const { manifests } = store.registry.repository('a')
    const index = indexOf(child)
    await manifests.put(index, { tag: 'v1', replace: true })
    const { config } = JSON.parse(child.bytes.toString())
    const subject = { mediaType: index.mediaType, digest: index.digest, size: index.bytes.length }
    const note = { schemaVersion: 2, mediaType: child.mediaType, config, layers: [], subject }
    const signature = { mediaType: child.mediaType, bytes: Buffer.from(JSON.stringify(note)) }
    await manifests.put(signature, { replace: true })
    expect((await manifests.listReferrers(index.digest, {})).referrers).toHaveLength(1)
    await manifests.delete({ kind: 'tag', tag: 'child' })
    await manifests.delete({ kind: 'tag', tag: 'v1' }, { reclaim: true })
    await store.gc.drained()
    expect(await manifests.get({ kind: 'digest', digest: child.digest })).toBeUndefined()
    expect((await manifests.listReferrers(index.digest, {})).referrers).toEqual([])
    expect(await dataFiles(store)).toEqual([])
  })

  it('keeps what was asked for a moment ago, and what is asked for again and again', async () => {
    await using store = await openGcStore()
    const bytes = Buffer.from('{"n":1}')
    await pushImage(store, 'a', bytes, 'v1')
    await store.registry
      .repository('a')
      .manifests.delete({ kind: 'tag', tag: 'v1' }, { reclaim: true })
    for (let asked = 0; asked < 8; asked++) {
      expect(await stat(store, 'a', bytes)).toEqual(expect.objectContaining({ size: bytes.length }))
      await sleep(graceMs / 2)
    }
    await store.gc.drained()
    expect(await stat(store, 'a', bytes)).toBeUndefined()
  })

  it('leaves blobs of a push alone until their grace is over', async () => {
    await using store = await openGcStore()
    const bytes = Buffer.from('{"n":1}')
    await pushBlob(store, 'a', bytes)
    expect(await store.gc.run({ dryRun: false })).toMatchObject({ links: 1, unreferencedLinks: 0 })
    await store.gc.drained()
    expect(await stat(store, 'a', bytes)).toBeDefined()
  })

  it('removes them after that; a dry run only says so', async () => {
    await using store = await openGcStore({ orphanGraceMs: 0 })
    const bytes = Buffer.from('{"n":1}')
    await pushBlob(store, 'a', bytes)
    const found = { unreferencedLinks: 1, unreferencedBytes: bytes.length }
    expect(await store.gc.run({ dryRun: true })).toMatchObject(found)
    await store.gc.drained()
    expect(await stat(store, 'a', bytes)).toBeDefined()
    expect(await store.gc.run({ dryRun: false })).toMatchObject(found)
    await store.gc.drained()
    expect(await dataFiles(store)).toEqual([])
    expect(await store.gc.state()).toMatchObject({ pending: 0, freedBlobs: 1, last: found })
  })

  it('lets a reader finish whose blob is removed meanwhile', async () => {
    await using store = await openGcStore()
    const bytes = Buffer.alloc(5 * 1024 * 1024, 'x')
    await pushBlob(store, 'a', bytes)
    const { blobs } = store.registry.repository('a')
    const chunks = blobs.read(digestOf(bytes), { signal })[Symbol.asyncIterator]()
    let size = (await chunks.next()).value?.length ?? 0
    await blobs.delete(digestOf(bytes))
    await store.gc.drained()
    expect(await dataFiles(store)).toEqual([])
    for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
      size += next.value.length
    }
    expect(size).toBe(bytes.length)
  })

  it('follows retention rules, but never removes an immutable tag', async () => {
    const repositories = ['a']
    await using store = await openGcStore({
      retention: [{ repositories, keepLast: 1, untaggedDays: 0 }],
      immutable: [{ repositories, tags: ['keep'] }],
    })
    for (const tag of ['keep', 'v1', 'v2']) {
      await pushImage(store, 'a', Buffer.from(JSON.stringify({ tag })), tag)
      await sleep(5)
    }
    await store.gc.run({ dryRun: false })
    await store.gc.drained()
    expect(await store.registry.repository('a').listTags({})).toEqual(['keep', 'v2'])
    expect(await filesIn(`${store.path}/v1/repos/a/_m`)).toHaveLength(2)
  })

  it('leaves a repository alone that it cannot read, and does the others', async () => {
    await using store = await openGcStore({ orphanGraceMs: 0 })
    await pushImage(store, 'a', Buffer.from('{"n":1}'), 'v1')
    await pushBlob(store, 'a', Buffer.from('{"orphan":1}'))
    await pushBlob(store, 'b', Buffer.from('{"orphan":2}'))
    const [manifest = ''] = await filesIn(`${store.path}/v1/repos/a/_m`)
    await writeFile(manifest, 'damaged')
    const report = await store.gc.run({ dryRun: false })
    expect(report).toMatchObject({ repositories: 2, failedRepositories: 1, unreferencedLinks: 1 })
    await store.gc.drained()
    expect(await dataFiles(store)).toHaveLength(2)
  })

  it('lets a blob be pushed again at any time', async () => {
    await using store = await openGcStore({ graceMs: 1 })
    const bytes = Buffer.from('{"n":1}')
    for (let round = 0; round < 20; round++) {
      await pushImage(store, 'a', bytes, 'v1')
      const { manifests } = store.registry.repository('a')
      expect(await manifests.get({ kind: 'tag', tag: 'v1' })).toBeDefined()
      expect(await readBack(store, 'a', bytes)).toEqual(bytes)
      await manifests.delete({ kind: 'tag', tag: 'v1' }, { reclaim: true })
      await sleep(round * 40)
    }
  })
})
