import { describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
import { errorCodeOf, locationOf, pushBlob, pushImage, sampleBlob, type Subject } from './client.ts'

export function manifestConformance({ name, send }: Subject): void {
  const manifests = `/v2/${name}/manifests`
  const put = (reference: string, bytes: Buffer, type: string = mediaTypes.ociManifest) =>
    send('PUT', `${manifests}/${reference}`, { body: bytes, headers: { 'content-type': type } })

  describe('end-3, end-7 and end-9: manifests', () => {
    it('answers the exact bytes and type, by tag and by digest', async () => {
      const { answer, bytes, digest } = await pushImage(send, name, () => 'exact', {
        unknown: { kept: true },
      })
      expect(answer.status).toBe(201)
      expect(answer.headers.get('docker-content-digest')).toBe(digest)
      for (const path of [`${manifests}/exact`, `${manifests}/${digest}`, locationOf(answer)]) {
        const pulled = await send('GET', path)
        expect(pulled.body.equals(bytes)).toBe(true)
        expect(pulled.headers.get('content-type')).toBe(mediaTypes.ociManifest)
        expect(pulled.headers.get('docker-content-digest')).toBe(digest)
        const head = await send('HEAD', path)
        expect([head.status, head.headers.get('content-length'), head.body.length]).toEqual([
          200,
          String(bytes.length),
          0,
        ])
      }
    })

    it('takes manifests by digest only if they have it, also sha512', async () => {
      const { bytes } = await pushImage(send, name, (digest) => digest)
      const changed = await put(digestOf(Buffer.from('x')), bytes)
      expect([changed.status, errorCodeOf(changed)]).toEqual([400, 'DIGEST_INVALID'])
      expect((await put('sha256:baddigeststring', bytes)).status).toBe(400)
      const digest = digestOf(bytes, 'sha512')
      const tagged = await put(`${digest}?tag=s1&tag=s2`, bytes)
      expect([tagged.status, tagged.headers.get('oci-tag')]).toEqual([201, 's1, s2'])
      const pulled = await send('GET', `${manifests}/s2`)
      expect(pulled.headers.get('docker-content-digest')).toBe(digest)
    })

    it('takes an index, Docker types, and 3.9 MB of annotations', async () => {
      const image = await pushImage(send, name, () => 'child')
      const child = { mediaType: mediaTypes.ociManifest, digest: image.digest, size: 1 }
      const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [child] }
      const bytes = Buffer.from(JSON.stringify(index))
      expect((await put('index', bytes, mediaTypes.ociIndex)).status).toBe(201)
      const docker = Buffer.from(
        image.bytes.toString().replace(mediaTypes.ociManifest, mediaTypes.dockerManifest),
      )
      expect((await put('docker', docker, mediaTypes.dockerManifest)).status).toBe(201)
      const entries = Array.from({ length: 390 }, (_, i) => [`a${i}`, 'x'.repeat(10_000)])
      const annotations: unknown = Object.fromEntries(entries)
      const large = await pushImage(send, name, () => 'large', { annotations })
      expect(large.answer.status).toBe(201)
    })

    it('refuses a manifest beyond the limit, and what is no manifest', async () => {
      const annotations = { a: 'x'.repeat(5_000_000) }
      expect((await pushImage(send, name, () => 'huge', { annotations })).answer.status).toBe(413)
      const invalid = await put('invalid', Buffer.from('{"schemaVersion":2'))
      expect([invalid.status, errorCodeOf(invalid)]).toEqual([400, 'MANIFEST_INVALID'])
    })

    it('needs the blobs it refers to, but not foreign layers or a subject', async () => {
      const layer = (mediaType: string) => ({ mediaType, digest: sampleBlob(1).digest, size: 1 })
      const tag = () => 'refers'
      const layers = [layer(mediaTypes.ociLayer)]
      const missing = await pushImage(send, name, tag, { layers })
      expect([missing.answer.status, errorCodeOf(missing.answer)]).toEqual([
        404,
        'MANIFEST_BLOB_UNKNOWN',
      ])
      const foreign = {
        layers: [layer('application/vnd.oci.image.layer.nondistributable.v1.tar')],
        subject: layer(mediaTypes.ociManifest),
      }
      expect((await pushImage(send, name, tag, foreign)).answer.status).toBe(201)
    })

    it('deletes a tag alone, and a digest with its tags', async () => {
      const { bytes, digest } = await pushImage(send, name, () => 'd1')
      await put('d2', bytes)
      expect((await send('DELETE', `${manifests}/d1`)).status).toBe(202)
      expect((await send('GET', `${manifests}/d1`)).status).toBe(404)
      expect((await send('GET', `${manifests}/${digest}`)).status).toBe(200)
      expect((await send('DELETE', `${manifests}/${digest}`)).status).toBe(202)
      expect((await send('GET', `${manifests}/d2`)).status).toBe(404)
      const again = await send('DELETE', `${manifests}/${digest}`)
      expect([again.status, errorCodeOf(again)]).toEqual([404, 'MANIFEST_UNKNOWN'])
    })

    it('says which methods there are', async () => {
      const answer = await send('PATCH', `${manifests}/x`)
      expect([answer.status, errorCodeOf(answer)]).toEqual([405, 'UNSUPPORTED'])
      expect(answer.headers.get('allow')).toContain('PUT')
    })
  })

  describe('end-8: listings', () => {
    const other = `${name}-tags`
    const json = async (
      path: string,
    ): Promise<{ status: number; link: string; value: unknown }> => {
      const { status, headers, body } = await send('GET', path)
      return { status, link: headers.get('link') ?? '', value: JSON.parse(body.toString()) }
    }

    it('lists tags in byte order and in pages that link to the next', async () => {
      for (const tag of ['c', 'a', 'B', 'b']) await pushImage(send, other, () => tag)
      const list = `/v2/${other}/tags/list`
      expect((await json(list)).value).toEqual({ name: other, tags: ['B', 'a', 'b', 'c'] })
      expect((await json(`${list}?n=0`)).value).toEqual({ name: other, tags: [] })
      const first = await json(`${list}?n=2`)
      expect(first.value).toEqual({ name: other, tags: ['B', 'a'] })
      const next = /^<(.+)>; rel="next"$/.exec(first.link)?.[1] ?? ''
      const second = await json(next)
      expect(second).toMatchObject({ link: '', value: { tags: ['b', 'c'] } })
      expect((await json(`${list}?last=a`)).value).toMatchObject({ tags: ['b', 'c'] })
      expect((await json(`${list}?n=x`)).status).toBe(400)
    })

    it('answers 404 for the tags of a repository that holds nothing', async () => {
      expect((await json(`/v2/${name}/nothing/tags/list`)).status).toBe(404)
    })

    it('lists repositories that hold a manifest', async () => {
      await pushBlob(send, `${other}/only-blobs`, sampleBlob(1))
      const before = encodeURIComponent(name)
      const { value } = await json(`/v2/_catalog?n=2&last=${before}`)
      expect(value).toEqual({ repositories: [other] })
    })
  })
}
