import { afterEach, beforeEach, expect, test } from 'vitest'
import { collect } from '../test/fixtures/chunks.ts'
import { startWebServer, withStatus, type Answer } from '../test/fixtures/web-server.ts'
import { digestOf } from './digest.ts'
import { createHashPool } from './hash-pool.ts'
import { createHttpClient } from './http-client.ts'
import { mediaTypes } from './manifest.ts'
import { createRegistryClient } from './registry-client.ts'
import type { Registry } from './registry.ts'

const { signal } = new AbortController()
const bytes = Buffer.from('{"schemaVersion":2}')

let owned: AsyncDisposableStack
beforeEach(() => {
  owned = new AsyncDisposableStack()
})
afterEach(() => owned.disposeAsync())

/** A client of a registry that answers like that. */
async function clientOf(answer: Answer): Promise<Registry> {
  const web = owned.use(await startWebServer(answer))
  const http = owned.use(createHttpClient(new URL(web.origin)))
  const hashPool = owned.use(createHashPool({ threads: 1 }))
  return createRegistryClient({ http, hashPool, scratchFolder: '/nowhere' })
}

test('a blob whose connection breaks is unavailable, not complete', async () => {
  const registry = await clientOf((_request, response) => {
    response.writeHead(200, { 'content-length': 100 })
    response.write('half', () => response.destroy())
  })
  const body = registry.repository('a').blobs.read(digestOf(bytes), { signal })
  await expect(collect(body)).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' })
})

test('an abort ends a read with its reason', async () => {
  const registry = await clientOf((_request, response) => void response.write('x'))
  const stop = new AbortController()
  const { blobs } = registry.repository('a')
  const reading = async (): Promise<void> => {
    for await (const chunk of blobs.read(digestOf(bytes), { signal: stop.signal })) {
      stop.abort(new Error(`enough after ${chunk.length}`))
    }
  }
  await expect(reading()).rejects.toThrow('enough after 1')
})

test('a range that the registry does not keep to is refused', async () => {
  const registry = await clientOf((_request, response) => void response.end('all of it'))
  const range = { start: 3, end: 5 }
  const body = registry.repository('a').blobs.read(digestOf(bytes), { range, signal })
  await expect(collect(body)).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' })
})

test('a manifest asked for by digest has that digest, or is refused', async () => {
  const registry = await clientOf((_request, response) => {
    response.writeHead(200, { 'content-type': mediaTypes.ociManifest }).end(bytes)
  })
  const { manifests } = registry.repository('a')
  const wanted = [digestOf(bytes), digestOf(bytes, 'sha512')]
  for (const digest of wanted) {
    expect(await manifests.get({ kind: 'digest', digest })).toMatchObject({ digest })
  }
  const other = digestOf(Buffer.from('other'))
  await expect(manifests.get({ kind: 'digest', digest: other })).rejects.toMatchObject({
    code: 'DIGEST_INVALID',
  })
  expect(await manifests.get({ kind: 'tag', tag: 'v1' })).toMatchObject({ digest: digestOf(bytes) })
})

test('pages are followed to their end, and no further than asked for', async () => {
  const asked: string[] = []
  const registry = await clientOf((request, response) => {
    asked.push(request.url ?? '')
    const last = new URL(`http://a${request.url}`).searchParams.get('last')
    const next = { '': 'b', b: 'd' }[last ?? '']
    const link = { link: `</v2/a/tags/list?last=${next}>; rel="next"` }
    const tags = { '': ['a', 'b'], b: ['c', 'd'], d: ['e'] }[last ?? '']
    response.writeHead(200, next === undefined ? {} : link).end(JSON.stringify({ tags }))
  })
  const repository = registry.repository('a')
  expect(await repository.listTags({})).toEqual(['a', 'b', 'c', 'd', 'e'])
  expect(await repository.listTags({ limit: 3 })).toEqual(['a', 'b', 'c'])
  expect(await repository.listTags({ last: 'd' })).toEqual(['e'])
  expect(asked).toHaveLength(6)
})

test('a page that leads to another host is not followed', async () => {
  const registry = await clientOf((_request, response) => {
    const link = '<http://example.invalid/v2/_catalog?last=a>; rel="next"'
    response.writeHead(200, { link }).end('{"repositories":["a"]}')
  })
  await expect(registry.listRepositories({})).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' })
})

test('what a registry says without our words is unavailable', async () => {
  const registry = await clientOf(withStatus(503))
  const { blobs, manifests } = registry.repository('a')
  const digest = digestOf(bytes)
  const asked = [
    blobs.stat(digest),
    blobs.delete(digest),
    blobs.create({ signal }),
    manifests.get({ kind: 'digest', digest }),
    manifests.delete({ kind: 'digest', digest }),
    registry.listRepositories({}),
  ]
  const codes = (await Promise.allSettled(asked)).map(
    (outcome) => outcome.status === 'rejected' && outcome.reason,
  )
  for (const reason of codes) expect(reason).toMatchObject({ code: 'TARGET_UNAVAILABLE' })
})
