import type { IncomingHttpHeaders } from 'node:http'
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
import { startFlawedRegistry, type FlawedRegistry } from '../../test/fixtures/flawed-registry.ts'
import { startMirrorServer, type MirrorServer } from '../../test/fixtures/mirror-server.ts'
import { smallImage } from '../../test/fixtures/small-image.ts'
import { startWebServer } from '../../test/fixtures/web-server.ts'
import type { MirrorSettings } from './settings.ts'

const image = smallImage(randomBytes(1000), 'one')
const other = smallImage(randomBytes(1000), 'two')

let upstream: FlawedRegistry
let mirror: MirrorServer
let owned: AsyncDisposableStack

beforeEach(async () => {
  owned = new AsyncDisposableStack()
  upstream = owned.use(await startFlawedRegistry())
  upstream.tag('v1', image)
})
afterEach(() => owned.disposeAsync())

async function start(settings: Partial<MirrorSettings> = {}) {
  mirror = owned.use(await startMirrorServer([{ upstream: upstream.origin, ...settings }]))
}

async function status(path: string, init: RequestInit = {}): Promise<number> {
  const response = await fetch(`${mirror.url}${path}`, init)
  await response.body?.cancel()
  return response.status
}

describe('a mirror takes nothing', () => {
  beforeEach(() => start())

  test.each<[string, string, string, string?]>([
    ['an upload', 'POST', '/v2/hub/disk/blobs/uploads/'],
    [
      'a whole blob',
      'POST',
      `/v2/hub/disk/blobs/uploads/?digest=${digestOf(Buffer.from('a'))}`,
      'a',
    ],
    ['a mount', 'POST', `/v2/hub/disk/blobs/uploads/?mount=${image.layer}&from=own`],
    ['a manifest', 'PUT', '/v2/hub/disk/manifests/v1', Buffer.from(image.manifest).toString()],
  ])('%s is refused', async (_what, method, path, body) => {
    const type = path.includes('manifests') ? mediaTypes.ociManifest : 'application/octet-stream'
    const headers = body === undefined ? {} : { 'content-type': type }
    const response = await fetch(`${mirror.url}${path}`, { method, headers, body: body ?? null })
    expect(response.status).toBe(403)
    expect(await response.json()).toMatchObject({ errors: [{ code: 'DENIED' }] })
    expect(upstream.asked()).toEqual([])
  })

  test('and leaves other names alone, also those that only begin like its prefix', async () => {
    for (const name of ['hub', 'hubs/disk', 'disk']) {
      expect(await status(`/v2/${name}/blobs/uploads/`, { method: 'POST' })).toBe(202)
      expect(await status(`/v2/${name}/manifests/v1`)).toBe(404)
    }
    expect(upstream.asked()).toEqual([])
  })
})

describe('names', () => {
  test('at the upstream are those behind the prefix, and behind the path of its address', async () => {
    await start({ prefix: 'a/b', upstream: `${upstream.origin}/team` })
    expect(await status('/v2/a/b/c/disk/manifests/v1')).toBe(200)
    expect(upstream.asked()).toEqual(['GET /v2/team/c/disk/manifests/v1'])
  })

  test('belong to the mirror with the longest prefix', async () => {
    const second = owned.use(await startFlawedRegistry())
    mirror = owned.use(
      await startMirrorServer([
        { prefix: 'hub', upstream: upstream.origin },
        { prefix: 'hub/inner', upstream: second.origin },
      ]),
    )
    await status('/v2/hub/inner/disk/manifests/v1')
    expect(upstream.asked()).toEqual([])
    expect(second.asked()).toEqual(['GET /v2/disk/manifests/v1'])
  })

  test('come with the host where a client uses us for another registry', async () => {
    await start()
    for (const path of ['manifests/v1', `blobs/${image.layer}`, 'tags/list?n=1']) {
      const query = `${path.includes('?') ? '&' : '?'}ns=${upstream.host}`
      const response = await mirror.get(`/v2/disk/${path}${query}`)
      expect(response.status).toBe(200)
      expect(response.headers.get('oci-namespace')).toBe(upstream.host)
      await response.arrayBuffer()
    }
    const held = mirror.store.registry.repository('hub/disk').manifests
    expect(await held.get({ kind: 'tag', tag: 'v1' })).toBeDefined()
    const elsewhere = await mirror.get('/v2/disk/manifests/v1?ns=other.example')
    expect(elsewhere.status).toBe(404)
    expect(elsewhere.headers.get('oci-namespace')).toBeNull()
  })

  test('in pages of tags stay with the host', async () => {
    await start()
    upstream.tag('v2', image)
    const first = await mirror.get(`/v2/disk/tags/list?n=1&ns=${upstream.host}`)
    expect(await first.json()).toMatchObject({ tags: ['v1'] })
    const next = /<([^>]+)>/.exec(first.headers.get('link') ?? '')?.[1] ?? ''
    const second = await mirror.get(next)
    expect(await second.json()).toMatchObject({ tags: ['v2'] })
    expect(second.headers.get('oci-namespace')).toBe(upstream.host)
  })
})

describe('tags', () => {
  test('are those of the upstream, in byte order and pages', async () => {
    await start({ ttl: 60_000 })
    for (const tag of ['b', 'B', '_x', '10']) upstream.tag(tag, image)
    const list = async (query: string) =>
      (await mirror.get(`/v2/hub/disk/tags/list${query}`)).json()
    expect(await list('')).toEqual({ name: 'hub/disk', tags: ['10', 'B', '_x', 'b', 'v1'] })
    expect(await list('?n=2&last=B')).toMatchObject({ tags: ['_x', 'b'] })
    expect(await list('?last=v1')).toMatchObject({ tags: [] })
    expect(upstream.asked()).toHaveLength(1)
  })

  test('are those held where the upstream cannot be asked', async () => {
    await start()
    await status('/v2/hub/disk/manifests/v1')
    upstream.flaw((_request, response) => {
      response.writeHead(503).end()
      return true
    })
    const listed = await mirror.get('/v2/hub/disk/tags/list')
    expect(await listed.json()).toMatchObject({ tags: ['v1'] })
    expect(await status('/v2/hub/never-pulled/tags/list')).toBe(502)
  })

  test('without end are read only so far', async () => {
    await start()
    const large = JSON.stringify({ tags: ['x'.repeat(7_000_000)] })
    upstream.flaw((_request, response) => {
      response.writeHead(200, { link: '</v2/disk/tags/list?last=x>; rel="next"' }).end(large)
      return true
    })
    // Nobody could ask for a tag like that.
    const listed = await mirror.get('/v2/hub/disk/tags/list?n=1')
    expect(await listed.json()).toMatchObject({ tags: [] })
    expect(upstream.asked()).toHaveLength(10)
  })

  test('of a repository that the upstream does not have are unknown', async () => {
    await start()
    upstream.flaw((_request, response) => {
      response.writeHead(404).end()
      return true
    })
    expect(await status('/v2/hub/disk/tags/list')).toBe(404)
  })
})

describe('referrers', () => {
  const signature = { mediaType: mediaTypes.ociManifest, digest: other.digest, size: 5 }
  const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex }
  const list = async (query = '') => {
    const listed = await mirror.get(`/v2/hub/disk/referrers/${image.digest}${query}`)
    expect(listed.status).toBe(200)
    return listed.json()
  }

  test('are those of the upstream', async () => {
    await start()
    const manifests = [{ ...signature, artifactType: 'a/b', annotations: { c: 'd' } }]
    upstream.flaw((request, response) => {
      if (request.url !== `/v2/disk/referrers/${image.digest}`) return false
      response.end(JSON.stringify({ ...index, manifests }))
      return true
    })
    expect(await list()).toEqual({ ...index, manifests })
    expect(await list('?artifactType=none')).toMatchObject({ manifests: [] })
  })

  test('of an upstream without them are those of the tag that clients keep there', async () => {
    await start()
    const subject = { mediaType: mediaTypes.ociManifest, digest: image.digest, size: 1 }
    const referring = Buffer.from(
      JSON.stringify({ ...JSON.parse(Buffer.from(other.manifest).toString()), subject }),
    )
    upstream.add({ manifest: referring })
    const digest = digestOf(referring)
    const manifest = Buffer.from(
      JSON.stringify({ ...index, manifests: [{ ...signature, digest }] }),
    )
    const tagged = { ...other, manifest, digest: digestOf(manifest) }
    upstream.tag(image.digest.replace(':', '-'), tagged)
    expect(await list()).toMatchObject({ manifests: [{ digest }] })
  })
})

describe('who we are', () => {
  const secrets = ({ authorization, cookie }: IncomingHttpHeaders) => authorization ?? cookie

  test('to the client is not told the upstream', async () => {
    await start()
    const headers = { authorization: 'Basic c2VjcmV0', cookie: 'session=secret' }
    await mirror.get('/v2/hub/disk/manifests/v1', headers)
    await (await mirror.get(`/v2/hub/disk/blobs/${image.layer}`, headers)).arrayBuffer()
    expect(upstream.requests().length).toBeGreaterThan(2)
    expect(upstream.requests().flatMap((request) => secrets(request.headers) ?? [])).toEqual([])
  })

  test('to the upstream is told it alone, not where it redirects to', async () => {
    const storage = owned.use(
      await startWebServer((_request, response) => response.end(image.blobs.get(image.layer))),
    )
    const login = `Basic ${Buffer.from('mirror:open sesame').toString('base64')}`
    upstream.flaw((request, response) => {
      if (request.headers.authorization !== login) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="upstream"' }).end()
        return true
      }
      if (request.method !== 'GET' || request.url?.includes('/blobs/') !== true) return false
      response.writeHead(307, { location: `${storage.origin}/bytes` }).end()
      return true
    })
    await start({ user: 'mirror', passwordEnv: 'UPSTREAM_PASSWORD' })
    expect(await status('/v2/hub/disk/manifests/v1')).toBe(200)
    const blob = await mirror.get(`/v2/hub/disk/blobs/${image.layer}`)
    expect(digestOf(Buffer.from(await blob.arrayBuffer()))).toBe(image.layer)
    expect(storage.requests.map(({ headers }) => secrets(headers))).toEqual([undefined])
  })

  test('is an error at the start where the password is not there', async () => {
    const missing = { user: 'mirror', passwordEnv: 'NOT_SET' }
    await expect(start(missing)).rejects.toMatchObject({ code: 'SETTING_INVALID' })
    const noFile = { user: 'mirror', passwordFile: '/no/such/file' }
    await expect(start(noFile)).rejects.toMatchObject({ code: 'SETTING_INVALID' })
  })
})

describe('what nobody pulls', () => {
  const hour = 60 * 60 * 1000
  const held = (digest: typeof image.digest) =>
    mirror.store.registry.repository('hub/disk').manifests.get({ kind: 'digest', digest })

  test('goes after the time in the settings, and comes back with the next pull', async () => {
    await start({ unusedFor: 3 * hour })
    upstream.tag('v2', other)
    await status('/v2/hub/disk/manifests/v1')
    await status('/v2/hub/disk/manifests/v2')
    mirror.wait(2 * hour)
    await status('/v2/hub/disk/manifests/v1')
    await mirror.evict()
    expect(await held(other.digest)).toBeDefined()
    mirror.wait(2 * hour)
    await mirror.evict()
    expect(await held(image.digest)).toBeDefined()
    expect(await held(other.digest)).toBeUndefined()
    expect(await status('/v2/hub/disk/manifests/v2')).toBe(200)
    mirror.wait(10 * hour)
    await mirror.evict()
    expect([await held(image.digest), await held(other.digest)]).toEqual([undefined, undefined])
    expect(await mirror.store.objects.list('v1/pulls/', {})).toEqual([])
  })

  test('stays where an index in use names it', async () => {
    await start({ unusedFor: 3 * hour })
    const child = { mediaType: mediaTypes.ociManifest, digest: image.digest, size: 1 }
    const { ociIndex: mediaType } = mediaTypes
    const index = JSON.stringify({ schemaVersion: 2, mediaType, manifests: [child] })
    const manifest = Buffer.from(index)
    upstream.add({ manifest })
    const ofIndex = `/v2/hub/disk/manifests/${digestOf(manifest)}`
    await status(ofIndex)
    await status(`/v2/hub/disk/manifests/${image.digest}`)
    mirror.wait(4 * hour)
    await status(ofIndex)
    await mirror.evict()
    expect(await held(image.digest)).toBeDefined()
    mirror.wait(4 * hour)
    await mirror.evict()
    expect(await held(image.digest)).toBeUndefined()
  })
})

test('counts what was asked for and where it was taken from', async () => {
  await start()
  await status('/v2/hub/disk/manifests/v1')
  await status('/v2/hub/disk/manifests/v1')
  await (await mirror.get(`/v2/hub/disk/blobs/${image.layer}`)).arrayBuffer()
  const metrics = await mirror.metrics()
  for (const line of [
    'dvcr_mirror_requests_total{mirror="hub",kind="manifest",outcome="miss"} 1',
    'dvcr_mirror_requests_total{mirror="hub",kind="manifest",outcome="hit"} 1',
    'dvcr_mirror_requests_total{mirror="hub",kind="blob",outcome="miss"} 1',
    'dvcr_mirror_upstream_bytes_total{mirror="hub"} 1000',
  ]) {
    expect(metrics).toContain(`${line}\n`)
  }
})
