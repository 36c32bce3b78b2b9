import { afterAll, beforeAll, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
import { startRegistry, type RegistryServer } from '../../test/fixtures/registry-server.ts'

// What the spec leaves open; what it says is in test/conformance/.

let server: RegistryServer

beforeAll(async () => {
  server = await startRegistry()
})
afterAll(() => server[Symbol.asyncDispose]())

async function ask(method: string, path: string, manifest?: unknown) {
  const headers = { 'content-type': mediaTypes.ociIndex }
  const sent = manifest === undefined ? {} : { body: JSON.stringify(manifest), headers }
  const answer = await fetch(`${server.url}${path}`, { method, ...sent })
  const text = await answer.text()
  const parsed: unknown = text === '' ? {} : JSON.parse(text)
  const code: unknown = Object(Object(parsed).errors?.[0]).code
  return { status: answer.status, headers: answer.headers, code }
}

const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [] }

it('says which methods there are', async () => {
  const answer = await ask('PATCH', '/v2/a/manifests/x')
  expect(answer).toMatchObject({ status: 405, code: 'UNSUPPORTED' })
  expect(answer.headers.get('allow')).toBe('GET, HEAD, PUT, DELETE')
})

it('names the version of the protocol with every answer', async () => {
  for (const path of ['/v2/', '/v2', '/v2/a/tags/list', '/v2/_catalog', '/v2/nothing']) {
    const { headers } = await ask('GET', path)
    expect(headers.get('docker-distribution-api-version')).toBe('registry/2.0')
  }
})

it('keeps the query out of locations', async () => {
  const { headers } = await ask('POST', '/v2/a/blobs/uploads/?digest-algorithm=sha512')
  expect(headers.get('location')).toMatch(/^\/v2\/a\/blobs\/uploads\/[0-9a-f-]{36}$/)
})

it('refuses a manifest whose references are missing, and one that is too large', async () => {
  const digest = digestOf(Buffer.from('missing'))
  const manifests = [{ mediaType: mediaTypes.ociManifest, digest, size: 1 }]
  const missing = await ask('PUT', '/v2/a/manifests/x', { ...index, manifests })
  expect(missing).toMatchObject({ status: 404, code: 'MANIFEST_BLOB_UNKNOWN' })
  const annotations = { large: 'x'.repeat(5_000_000) }
  const large = await ask('PUT', '/v2/a/manifests/x', { ...index, annotations })
  expect(large).toMatchObject({ status: 413, code: 'SIZE_INVALID' })
})

it('takes a manifest without a Content-Type by what it says it is', async () => {
  const put = (manifest: unknown) =>
    fetch(`${server.url}/v2/bare/manifests/x`, {
      method: 'PUT',
      body: Buffer.from(JSON.stringify(manifest)),
    })
  expect((await put(index)).status).toBe(201)
  expect((await ask('GET', '/v2/bare/manifests/x')).headers.get('content-type')).toBe(
    mediaTypes.ociIndex,
  )
  const { mediaType: _, ...silent } = index
  expect((await put(silent)).status).toBe(400)
})

it('sets 32 tags at once, and no more', async () => {
  const digest = digestOf(Buffer.from(JSON.stringify(index)))
  const put = (count: number) => {
    const query = Array.from({ length: count }, (_, i) => `tag=${count}-${i}`).join('&')
    return ask('PUT', `/v2/a/manifests/${digest}?${query}`, index)
  }
  const set = await put(32)
  expect(set.status).toBe(201)
  expect(set.headers.get('oci-tag')?.split(', ')).toHaveLength(32)
  expect(await put(33)).toMatchObject({ status: 414, code: 'UNSUPPORTED' })
  expect((await ask('GET', '/v2/a/manifests/33-0')).status).toBe(404)
})

it('refuses a number of entries that is none', async () => {
  await ask('PUT', '/v2/a/manifests/x', index)
  for (const n of ['x', '-1', '1.5', '1e3', '99999999999', '']) {
    expect((await ask('GET', `/v2/a/tags/list?n=${n}`)).status).toBe(400)
  }
})
