import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digest, startHostileTarget, type HostileTarget } from './hostile-target.ts'
import type { RawAnswer } from './raw-http.ts'

const manifestType = 'application/vnd.oci.image.manifest.v1+json'

let target: HostileTarget
beforeAll(async () => {
  target = await startHostileTarget()
})
afterAll(() => target[Symbol.asyncDispose]())

function put(body: string): Promise<RawAnswer> {
  const length = Buffer.byteLength(body, 'latin1')
  const headers = `content-type: ${manifestType}\r\ncontent-length: ${length}\r\n`
  return target.ask({ method: 'PUT', path: '/v2/a/manifests/x', headers, body })
}

describe('a manifest', () => {
  const base = {
    schemaVersion: 2,
    mediaType: manifestType,
    config: { mediaType: 'application/x', digest, size: 5000 },
    layers: [{ mediaType: 'application/x', digest, size: 5000 }],
  }
  const withLayer = (layer: unknown) => JSON.stringify({ ...base, layers: [layer] })
  const huge = '9'.repeat(400)

  it.each<[string, string | (() => string)]>([
    ['empty', ''],
    ['no JSON', '{'],
    ['null', 'null'],
    ['a number', '1'],
    ['a list', '[]'],
    ['of depth 10^5', () => `${'['.repeat(100_000)}${']'.repeat(100_000)}`],
    ['of objects of depth 10^5', () => `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`],
    [
      'with annotations of depth 10^5',
      () =>
        JSON.stringify(base).replace(
          /\}$/,
          `,"annotations":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
        ),
    ],
    ['not UTF-8', '{"schemaVersion":2,"mediaType":"\xff\xfe"}'],
    ['with a prototype', '{"__proto__":{"schemaVersion":2},"constructor":{"prototype":{}}}'],
    ['with a negative size', withLayer({ ...base.layers[0], size: -1 })],
    ['with a size that is not whole', withLayer({ ...base.layers[0], size: 0.5 })],
    [
      'with a size beyond 2^53',
      withLayer(0).replace('0]', `{"digest":"${digest}","mediaType":"x","size":${huge}}]`),
    ],
    ['with a digest that is none', withLayer({ ...base.layers[0], digest: 'sha256:..' })],
    ['with a layer that is no descriptor', withLayer('x')],
    ['with layers that are no list', JSON.stringify({ ...base, layers: {} })],
    ['with a media type that is another', JSON.stringify({ ...base, mediaType: 'text/html' })],
    ['with annotations that are no text', JSON.stringify({ ...base, annotations: { a: {} } })],
    ['with a subject that is none', JSON.stringify({ ...base, subject: { digest: '../../x' } })],
  ])('that is %s is refused', async (_what, body) => {
    const answer = await put(typeof body === 'string' ? body : body())
    expect(answer.status).toBe(400)
    expect(answer.body.toString()).toMatch(/"code":"(?:MANIFEST|DIGEST)_INVALID"/)
  })

  it('of 10 MB is refused', async () => {
    const annotations = { a: 'x'.repeat(10_000_000) }
    const { status } = await put(JSON.stringify({ ...base, annotations }))
    expect(status).toBe(413)
  })

  it('of very many layers is taken as long as it is not too large', async () => {
    const layers = Array.from({ length: 25_000 }, () => base.layers[0])
    const { status } = await put(JSON.stringify({ ...base, layers }))
    expect(status).toBe(201)
    const url = `${target.server.url}/v2/a/manifests/x`
    expect((await fetch(url, { method: 'DELETE' })).status).toBe(202)
  })
})

it('all of it has left the server as it was', async () => {
  expect(await target.damage()).toEqual([])
})
