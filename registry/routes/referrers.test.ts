import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf, type Digest, type DigestAlgorithm } from '../../core/digest.ts'
import { createLog } from '../../core/log.ts'
import { mediaTypes } from '../../core/manifest.ts'
import { filesIn } from '../../test/fixtures/store-at.ts'
import { openTempStore, type TempStore } from '../../test/fixtures/temp-store.ts'
import { createMetrics } from '../metrics.ts'
import { createServer } from '../http/server.ts'

const name = 'a/b'
const subject = digestOf(Buffer.from('subject'))

let stack: AsyncDisposableStack
let store: TempStore
let url: string

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  store = stack.use(await openTempStore())
  const parts = { store, log: createLog('silent'), metrics: createMetrics() }
  const app = stack.use(createServer({ ...parts, guard: 'loopback', drainMs: 100 }))
  url = await app.listen({ host: '127.0.0.1', port: 0 })
})
afterEach(() => stack.disposeAsync())

const descriptor = (digest: Digest) => ({ mediaType: mediaTypes.ociIndex, digest, size: 1 })

/** An index, which needs no blobs. */
async function push(
  fields: Readonly<Record<string, unknown>>,
  {
    tag,
    algorithm = 'sha256',
  }: { readonly tag?: string; readonly algorithm?: DigestAlgorithm } = {},
): Promise<Digest> {
  const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [], ...fields }
  const manifest = { mediaType: mediaTypes.ociIndex, bytes: Buffer.from(JSON.stringify(index)) }
  const { manifests } = store.registry.repository(name)
  return (await manifests.put(manifest, { tag, replace: true, algorithm })).digest
}

async function get(path: string): Promise<{ digests: string[]; link: string | undefined }> {
  const answer = await fetch(url + path)
  expect(answer.status).toBe(200)
  const next = /^<(.+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1]
  const { manifests } = Object(await answer.json())
  return { digests: manifests.map(({ digest }: { digest: string }) => digest), link: next }
}

const path = `/v2/${name}/referrers/${subject}`

async function getAll(first: string): Promise<string[][]> {
  const pages: string[][] = []
  for (let next: string | undefined = first; next !== undefined;) {
    const { digests, link } = await get(next)
    pages.push(digests)
    next = link
  }
  return pages
}

it('ends a page after about a mebibyte, and links to the next', async () => {
  const annotations = { large: 'x'.repeat(100_000) }
  const pushed: string[] = []
  for (let i = 0; i < 20; i++) {
    const artifactType = i % 2 === 0 ? 'even/type' : 'odd/type'
    const fields = { artifactType, annotations: { ...annotations, i: String(i) } }
    pushed.push(await push({ ...fields, subject: descriptor(subject) }))
  }
  const pages = await getAll(path)
  expect(pages.length).toBeGreaterThan(1)
  expect(pages.flat()).toEqual(pushed.toSorted())
  const even = await getAll(`${path}?artifactType=even/type`)
  expect(even.length).toBe(pages.length)
  expect(even.flat()).toEqual(pushed.filter((_, i) => i % 2 === 0).toSorted())
})

it('refuses a place in the list that is none', async () => {
  expect((await fetch(`${url}${path}?last=x`)).status).toBe(400)
})

describe('with the tag that clients keep where a registry has no referrers', () => {
  /** As in a store whose manifests were copied from a registry without referrers. */
  async function forgetReferrers(): Promise<void> {
    for (const file of await filesIn(join(store.path, 'v1/repos', name, '_r'))) await rm(file)
  }

  it('lists what the tag does, where it is there and names the subject', async () => {
    const listed = await push({ artifactType: 'a/type', subject: descriptor(subject) })
    const ofOther = await push({ artifactType: 'a/type', subject: descriptor(listed) })
    const ofNone = await push({ artifactType: 'a/type' })
    await forgetReferrers()
    expect((await get(path)).digests).toEqual([])
    const manifests = [listed, ofOther, ofNone, listed].map(descriptor)
    await push({ manifests }, { tag: subject.replace(':', '-') })
    expect((await get(path)).digests).toEqual([listed])
    expect((await get(`${path}?artifactType=a/type`)).digests).toEqual([listed])
    expect((await get(`${path}?artifactType=b/type`)).digests).toEqual([])
  })

  it('lists what both know once, and all in order', async () => {
    const digests: Digest[] = []
    for (let i = 0; i < 3; i++) {
      digests.push(await push({ annotations: { i: `${i}` }, subject: descriptor(subject) }))
    }
    await forgetReferrers()
    const entered = await push({ annotations: { i: '3' }, subject: descriptor(subject) })
    const manifests = [...digests, entered].map(descriptor)
    await push({ manifests }, { tag: subject.replace(':', '-') })
    expect((await get(path)).digests).toEqual([...digests, entered].toSorted())
  })

  it('knows the shortened tag of a sha512 digest', async () => {
    const long = digestOf(Buffer.from('subject'), 'sha512')
    const listed = await push({ subject: descriptor(long) }, { algorithm: 'sha512' })
    await forgetReferrers()
    const tag = long.replace(':', '-').slice(0, 'sha512-'.length + 64)
    await push({ manifests: [descriptor(listed)] }, { tag })
    expect((await get(`/v2/${name}/referrers/${long}`)).digests).toEqual([listed])
  })
})
