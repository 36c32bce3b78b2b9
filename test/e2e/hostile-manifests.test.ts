import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digest, startHostileTarget, type HostileTarget } from './hostile-target.ts'

const manifestType = 'application/vnd.oci.image.manifest.v1+json'

let target: HostileTarget
beforeAll(async () => {
  target = await startHostileTarget()
})
afterAll(() => target[Symbol.asyncDispose]())

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
    ['of 10 MB', () => JSON.stringify({ ...base, annotations: { a: 'x'.repeat(10_000_000) } })],
    [
      'of 50,000 layers',
      () =>
        JSON.stringify({ ...base, layers: Array.from({ length: 25_000 }, () => base.layers[0]) }),
    ],
  ])('that is %s is answered sanely', async (what, body) => {
    const text = typeof body === 'string' ? body : body()
    const length = Buffer.byteLength(text, 'latin1')
    const headers = `content-type: ${manifestType}\r\ncontent-length: ${length}\r\n`
    const status = await target.statusOf({
      method: 'PUT',
      path: '/v2/a/manifests/x',
      headers,
      body: text,
    })
    if (what === 'of 10 MB') expect(status).toBe(413)
    else expect([400, 404, 413, 201]).toContain(status)
    await fetch(`${target.server.url}/v2/a/manifests/x`, { method: 'DELETE' })
  })

  it('that is damaged is refused for what it is', async () => {
    for (const body of ['', '{', 'null', '[]', withLayer('x')]) {
      const headers = `content-type: ${manifestType}\r\ncontent-length: ${body.length}\r\n`
      const answer = await target.ask({ method: 'PUT', path: '/v2/a/manifests/x', headers, body })
      expect([body, answer.status]).toEqual([body, 400])
      expect(answer.body.toString()).toContain('MANIFEST_INVALID')
    }
  })
})

it('all of it has left the server as it was', () => target.expectUntouched())
