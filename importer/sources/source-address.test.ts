import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createHashPool, type HashPool } from '../../core/hash-pool.ts'
import type { Registry } from '../../core/registry.ts'
import { collect } from '../../test/fixtures/chunks.ts'
import { startWebServer, withStatus, type WebServer } from '../../test/fixtures/web-server.ts'
import { parseAddressPolicy } from './address-policy.ts'
import { parseImageAddress } from './image-address.ts'
import type { Credentials } from './credentials.ts'
import { parseSource, type WantedSource } from './source-address.ts'

const parse = (source: string, wanted: Partial<WantedSource> = {}, credentials?: Credentials) =>
  parseSource({ source, checksums: {}, architecture: 'amd64', ...wanted }, credentials)

const digest = `sha256:${'a'.repeat(64)}`
const { signal } = new AbortController()
let hashPool: HashPool
const registry: Registry = new Proxy(Object.create(null), {})
beforeAll(() => {
  hashPool = createHashPool({ threads: 1 })
})
afterAll(() => hashPool[Symbol.asyncDispose]())

describe('the address of an image', () => {
  test.each([
    ['docker://h.example/a/b:1', 'https://h.example/', 'a/b', 'docker://h.example/a/b:1'],
    [
      'docker://h.example:5000/a',
      'https://h.example:5000/',
      'a',
      'docker://h.example:5000/a:latest',
    ],
    ['docker://localhost/a', 'http://localhost/', 'a', 'docker://localhost/a:latest'],
    [
      'docker://127.0.0.1:5000/a',
      'http://127.0.0.1:5000/',
      'a',
      'docker://127.0.0.1:5000/a:latest',
    ],
    ['docker://[::1]:5000/a', 'http://[::1]:5000/', 'a', 'docker://[::1]:5000/a:latest'],
    [`docker://h.example/a@${digest}`, 'https://h.example/', 'a', `docker://h.example/a@${digest}`],
    [
      'docker://debian',
      'https://registry-1.docker.io/',
      'library/debian',
      'docker://docker.io/library/debian:latest',
    ],
    ['docker://me/x:2', 'https://registry-1.docker.io/', 'me/x', 'docker://docker.io/me/x:2'],
    [
      'docker://docker.io/debian',
      'https://registry-1.docker.io/',
      'library/debian',
      'docker://docker.io/library/debian:latest',
    ],
  ])('%s is read', (text, registry, name, label) => {
    const address = parseImageAddress(text)
    expect({ ...address, registry: address.registry.href }).toMatchObject({ registry, name, label })
  })

  test.each([
    'docker://',
    'docker://h.example/',
    'docker://h.example/UPPER',
    'docker://h.example/a:',
    'docker://h.example/a@sha256:12',
    'docker://me:secret@h.example/a',
    'docker://h.example:99999/a',
    'docker://h.example/a?x=1',
    'docker://../a',
    'docker://127.1/a',
    'docker://0x7f.1/a',
    'docker://[0:0::1]/a',
  ])('%s is refused', (text) => {
    expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'SOURCE_INVALID' }))
    expect(() => parse(text)).not.toThrow(/secret/)
  })
})

describe('an image under a policy', () => {
  const open = ({ origin }: WebServer, policy: string) =>
    parse(`docker://${new URL(origin).host}/a:1`).open({
      signal,
      retryDelaysMs: [],
      checksums: {},
      registry,
      policy: parseAddressPolicy(policy),
      hashPool,
      maxVirtualSize: 2 ** 40,
      scratchFolder: '/nonexistent',
    })

  test('is not asked for where the policy refuses its registry', async () => {
    await using web = await startWebServer(withStatus(200))
    await expect(open(web, 'restricted')).rejects.toMatchObject({ code: 'SOURCE_FORBIDDEN' })
    expect(web.requests).toHaveLength(0)
  })

  test.each([
    ['service for tokens', 401, { 'www-authenticate': 'Bearer realm="http://10.0.0.1/token"' }],
    ['redirect', 307, { location: 'http://169.254.169.254/latest/meta-data' }],
  ])('is not asked for at a %s elsewhere', async (_what, status, headers) => {
    await using web = await startWebServer(withStatus(status, headers))
    const opening = open(web, 'restricted,+127.0.0.1')
    await expect(opening).rejects.toMatchObject({ code: 'SOURCE_FORBIDDEN' })
  })
})

describe('credentials', () => {
  test.each<[string, Partial<WantedSource>, Credentials]>([
    ['https://h.example/a', {}, { user: 'me', token: 't' }],
    ['https://h.example/a', {}, { user: 'm:e' }],
    ['https://me:secret@h.example/a', {}, { user: 'me' }],
    ['docker://h.example/a', {}, { headers: { 'x-a': '1' } }],
    ['docker://h.example/a', {}, { user: 'me' }],
    ['docker://h.example/a', { mirrors: ['https://b.example/a'] }, {}],
    ['https://h.example/a', { mirrors: ['https://me:secret@b.example/a'] }, {}],
    ['https://h.example/a', { mirrors: ['docker://b.example/a'] }, {}],
    ['https://h.example/a', { s3Region: 'eu-west-1' }, {}],
    ['image:a:1', { checksums: { md5: '0' } }, {}],
    ['image:a:1', { mirrors: ['https://b.example/a'] }, {}],
    ['image:a:1', {}, { user: 'me' }],
    ['https://h.example/a', { checksumsUrl: 'https://me:secret@b.example/a' }, {}],
    ['docker://h.example/a', { checksumsUrl: 'https://b.example/SHA256SUMS' }, {}],
    ['s3://bucket/a', { mirrors: ['https://b.example/a'] }, {}],
    ['s3://bucket/a', { s3Endpoint: 'https://me:secret@b.example/' }, {}],
    ['s3://bucket/a', { s3Endpoint: 'ftp://b.example/' }, {}],
    ['s3://bucket/a', {}, { user: 'id' }],
    ['s3://bucket/a', {}, { user: 'id', password: 'secret', headers: { a: 'b' } }],
    ['s3://bucket/', {}, {}],
    ['s3://Bucket/a', {}, {}],
    ['s3://bucket/a/../b', {}, {}],
    ['s3://arn:aws:s3/a', {}, {}],
  ])('that %s cannot take are refused, with %o and %o', (source, wanted, credentials) => {
    expect(() => parse(source, wanted, credentials)).toThrow(
      expect.objectContaining({ code: 'SOURCE_INVALID' }),
    )
    expect(() => parse(source, wanted, credentials)).not.toThrow(/secret/)
  })

  test('are a login at a registry', async () => {
    await using web = await startWebServer((request, response) => {
      const basic = 'Basic realm="r"'
      const status = request.headers.authorization === undefined ? 401 : 404
      response.writeHead(status, { 'www-authenticate': basic }).end()
    })
    const source = `docker://${new URL(web.origin).host}/a:1`
    const opening = parse(source, {}, { user: 'me', password: 'secret' }).open({
      signal,
      retryDelaysMs: [],
      checksums: {},
      registry,
      hashPool,
      maxVirtualSize: 2 ** 40,
      scratchFolder: '/nonexistent',
    })
    await expect(opening).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' })
    const sent = Buffer.from('me:secret').toString('base64')
    expect(web.requests.at(-1)?.headers.authorization).toBe(`Basic ${sent}`)
  })
})

test('a registry that is slower than allowed is given up after so many tries', async () => {
  const layer = { mediaType: 'application/x', digest: `sha256:${'a'.repeat(64)}`, size: 1_000_000 }
  const type = 'application/vnd.oci.image.manifest.v1+json'
  const manifest = { schemaVersion: 2, mediaType: type, config: layer, layers: [layer] }
  let blobs = 0
  await using web = await startWebServer((request, response) => {
    if (request.url?.includes('/manifests/') === true) {
      return void response.writeHead(200, { 'content-type': type }).end(JSON.stringify(manifest))
    }
    blobs++
    const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
    response.writeHead(start === 0 ? 200 : 206, { 'content-length': layer.size - start })
    const timer = setInterval(() => response.write(Buffer.alloc(600)), 5)
    response.once('close', () => clearInterval(timer))
  })
  const opening = parse(`docker://${new URL(web.origin).host}/a:1`).open({
    signal,
    retryDelaysMs: [1, 1],
    floorSpeed: { bytesPerSecond: 1_000_000, windowMs: 50 },
    checksums: {},
    registry,
    hashPool,
    maxVirtualSize: 2 ** 40,
    scratchFolder: '/nonexistent',
  })
  const reading = opening.then(async (source) => {
    await using opened = source
    return await collect(opened.body)
  })
  await expect(reading).rejects.toThrow('sends fewer than 1000000 bytes per second')
  expect(blobs).toBe(3)
})
