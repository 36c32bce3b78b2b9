import type { ServerResponse } from 'node:http'
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
import {
  startFlawedRegistry,
  type Flaw,
  type FlawedRegistry,
} from '../../test/fixtures/flawed-registry.ts'
import { startMirrorServer, type MirrorServer } from '../../test/fixtures/mirror-server.ts'
import { smallImage } from '../../test/fixtures/small-image.ts'

const one = smallImage(randomBytes(1000), 'one')
const two = smallImage(randomBytes(1000), 'two')
const byTag = '/v2/hub/disk/manifests/v1'
const byDigest = (digest: string): string => `/v2/hub/disk/manifests/${digest}`

let upstream: FlawedRegistry
let mirror: MirrorServer

beforeEach(async () => {
  upstream = await startFlawedRegistry()
  upstream.tag('v1', one)
})
afterEach(async () => {
  await mirror[Symbol.asyncDispose]()
  await upstream[Symbol.asyncDispose]()
})

const start = async (ttl: number): Promise<void> => {
  mirror = await startMirrorServer([{ upstream: upstream.origin, ttl }])
}

async function pull(path = byTag) {
  const response = await mirror.get(path)
  const bytes = Buffer.from(await response.arrayBuffer())
  const { status, headers } = response
  return {
    status,
    digest: headers.get('docker-content-digest'),
    bytes,
    warning: headers.get('warning'),
  }
}

const answering =
  (status: number): Flaw =>
  (_request, response: ServerResponse) => {
    response.writeHead(status).end()
    return true
  }

describe('a tag younger than its time to live', () => {
  beforeEach(() => start(60_000))

  test('is asked for once', async () => {
    for (const path of [byTag, byTag, byDigest(one.digest)]) {
      const pulled = await pull(path)
      expect(pulled).toMatchObject({ status: 200, digest: one.digest, warning: null })
      expect(pulled.bytes.equals(one.manifest)).toBe(true)
    }
    expect(upstream.asked()).toEqual(['GET /v2/disk/manifests/v1'])
  })

  test('is asked for once by 100 clients at the same time', async () => {
    const pulled = await Promise.all(Array.from({ length: 100 }, () => pull()))
    expect(new Set(pulled.map(({ status, digest }) => `${status} ${digest}`))).toEqual(
      new Set([`200 ${one.digest}`]),
    )
    expect(upstream.asked()).toHaveLength(1)
  })

  test('is not held where the upstream has none, and asked for once', async () => {
    for (const path of ['/v2/hub/disk/manifests/v9', byDigest(two.digest)]) {
      expect((await pull(path)).status).toBe(404)
      expect((await pull(path)).status).toBe(404)
    }
    expect(upstream.asked()).toHaveLength(2)
  })

  test('is asked for again after a delete of what is held', async () => {
    await pull()
    const deleted = await fetch(`${mirror.url}${byTag}`, { method: 'DELETE' })
    expect(deleted.status).toBe(202)
    expect((await pull()).digest).toBe(one.digest)
    expect(upstream.asked()).toHaveLength(2)
  })
})

describe('a tag older than its time to live', () => {
  beforeEach(() => start(0))

  test('is asked for by HEAD where it has not changed', async () => {
    await pull()
    upstream.forget()
    expect((await pull()).digest).toBe(one.digest)
    expect(upstream.asked()).toEqual(['HEAD /v2/disk/manifests/v1'])
  })

  test('that was moved is taken by the digest that HEAD said, and held from then on', async () => {
    await pull()
    upstream.tag('v1', two)
    upstream.forget()
    expect((await pull()).bytes.equals(two.manifest)).toBe(true)
    expect(upstream.asked()).toEqual([
      'HEAD /v2/disk/manifests/v1',
      `GET /v2/disk/manifests/${two.digest}`,
    ])
    upstream.flaw(answering(500))
    expect(await pull()).toMatchObject({ status: 200, digest: two.digest })
    expect(await pull(byDigest(one.digest))).toMatchObject({ status: 200, digest: one.digest })
  })

  test('that was moved between HEAD and GET is taken as it is then', async () => {
    await pull()
    upstream.tag('v1', two)
    const three = smallImage(randomBytes(10), 'three')
    upstream.flaw((request) => {
      if (request.url?.endsWith(two.digest)) {
        upstream.tag('v1', three)
        upstream.remove(two.digest)
      }
      return false
    })
    expect((await pull()).digest).toBe(three.digest)
  })

  test('is taken whole where the upstream does not say digests', async () => {
    await pull()
    upstream.tag('v1', two)
    upstream.flaw((request, response) => {
      if (request.method !== 'HEAD') return false
      response.writeHead(200, { 'content-type': mediaTypes.ociManifest }).end()
      return true
    })
    expect((await pull()).digest).toBe(two.digest)
  })

  test.each([429, 500, 502, 503, 401, 403])(
    'is served as held, with a warning, where the upstream answers %i',
    async (status) => {
      await pull()
      upstream.flaw(answering(status))
      const stale = await pull()
      expect(stale).toMatchObject({ status: 200, digest: one.digest })
      expect(stale.warning).toMatch(/^110 /)
      expect(stale.bytes.equals(one.manifest)).toBe(true)
    },
  )

  test('is served as held where the upstream is gone, which is then left alone for a time', async () => {
    await pull()
    upstream.flaw((request) => {
      request.socket.destroy()
      return true
    })
    upstream.forget()
    for (let times = 0; times < 2; times++) {
      expect(await pull()).toMatchObject({ status: 200, digest: one.digest })
    }
    expect(upstream.asked()).toHaveLength(1)
    expect(await mirror.metrics()).toContain(
      'dvcr_mirror_upstream_errors_total{mirror="hub",code="UPSTREAM_UNAVAILABLE"} 1\n',
    )
  })

  test('that is gone at the upstream is gone here', async () => {
    await pull()
    upstream.tag('v1', undefined)
    expect((await pull()).status).toBe(404)
    const held = mirror.store.registry.repository('hub/disk').manifests
    expect(await held.get({ kind: 'tag', tag: 'v1' })).toBeUndefined()
    expect((await pull(byDigest(one.digest))).status).toBe(200)
  })

  test('that was pushed before there was a mirror is hidden, not deleted', async () => {
    const held = mirror.store.registry.repository('hub/disk').manifests
    const manifest = { mediaType: mediaTypes.ociManifest, bytes: two.manifest }
    await held.put(manifest, { tag: 'own', replace: true, partial: true })
    expect((await pull('/v2/hub/disk/manifests/own')).status).toBe(404)
    expect(await held.get({ kind: 'tag', tag: 'own' })).toMatchObject({ digest: two.digest })
  })
})

describe('what is not held and cannot be had', () => {
  beforeEach(() => start(60_000))

  test.each([
    [429, 429],
    [500, 502],
    [401, 403],
    [403, 403],
  ])('of an upstream that answers %i is answered %i', async (status, expected) => {
    upstream.flaw(answering(status))
    expect((await pull()).status).toBe(expected)
    upstream.flaw(undefined)
    expect((await pull()).status).toBe(200)
  })

  test('for a time that the upstream names is answered with that time', async () => {
    upstream.flaw((_request, response) => {
      response.writeHead(429, { 'retry-after': '17' }).end()
      return true
    })
    const response = await mirror.get(byTag)
    expect(response.headers.get('retry-after')).toBe('17')
  })

  test.each<[string, (response: ServerResponse) => void]>([
    [
      'other bytes than the digest asked for',
      (response) => manifestHead(response).end(two.manifest),
    ],
    ['what is no manifest', (response) => manifestHead(response).end('<html>')],
    ['a manifest without end', (response) => manifestHead(response).end(Buffer.alloc(5_000_000))],
    ['a part', (response) => manifestHead(response, 5000).write('{', () => response.destroy())],
  ])('from an upstream that sends %s is refused, and nothing is kept', async (_what, send) => {
    upstream.flaw((_request, response) => {
      send(response)
      return true
    })
    expect((await pull(byDigest(one.digest))).status).toBe(502)
    upstream.flaw(undefined)
    const held = mirror.store.registry.repository('hub/disk').manifests
    expect(await held.get({ kind: 'digest', digest: one.digest })).toBeUndefined()
    expect(await held.get({ kind: 'digest', digest: two.digest })).toBeUndefined()
    expect((await pull(byDigest(one.digest))).bytes.equals(one.manifest)).toBe(true)
  })
})

test('an index is held without its images, which come as they are asked for', async () => {
  await start(60_000)
  const index = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: [one, two].map(({ digest, manifest }) => ({
        mediaType: mediaTypes.ociManifest,
        digest,
        size: manifest.length,
      })),
    }),
  )
  upstream.tag('v2', two)
  upstream.add({ manifest: index })
  const pulled = await pull(byDigest(digestOf(index)))
  expect(pulled).toMatchObject({ status: 200, digest: digestOf(index) })
  expect((await pull(byDigest(two.digest))).bytes.equals(two.manifest)).toBe(true)
  const held = mirror.store.registry.repository('hub/disk').manifests
  expect(await held.get({ kind: 'digest', digest: one.digest })).toBeUndefined()
})

function manifestHead(response: ServerResponse, size?: number): ServerResponse {
  const length = size === undefined ? {} : { 'content-length': size }
  return response.writeHead(200, { 'content-type': mediaTypes.ociManifest, ...length })
}
