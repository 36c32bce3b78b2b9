import { describe, expect, it } from 'vitest'
import {
  errorCodeOf,
  locationOf,
  pushBlob,
  sampleBlob,
  startUpload,
  withDigest,
  type Answer,
  type SampleBlob,
  type Subject,
} from './client.ts'

export function pushConformance({ name, send }: Subject): void {
  const uploads = `/v2/${name}/blobs/uploads/`

  /** What a client sees of a blob that was taken. */
  async function outcome(answer: Answer) {
    const { status, headers } = answer
    const pulled = await send('GET', locationOf(answer))
    return {
      answered: [status, headers.get('docker-content-digest'), answer.body.length],
      pulled: [pulled.headers.get('docker-content-digest'), pulled.body.toString('base64')],
    }
  }

  const stored = ({ bytes, digest }: SampleBlob) => ({
    answered: [201, digest, 0],
    pulled: [digest, bytes.toString('base64')],
  })

  const chunk = (location: string, bytes: Buffer, start: number) =>
    send('PATCH', location, {
      body: bytes,
      headers: { 'content-range': `${start}-${start + bytes.length - 1}` },
    })

  describe('end-4 to end-6: pushing blobs', () => {
    it('takes POST then PUT', async () => {
      const blob = sampleBlob(3000)
      expect(await outcome(await pushBlob(send, name, blob))).toEqual(stored(blob))
    })

    it('takes a single POST', async () => {
      const blob = sampleBlob(3000)
      expect(
        await outcome(await send('POST', withDigest(uploads, blob.digest), { body: blob.bytes })),
      ).toEqual(stored(blob))
    })

    it('takes sha512 by every way, unannounced', async () => {
      const [put, post, patched] = [1, 2, 3].map((size) => sampleBlob(size * 1000, 'sha512'))
      if (!put || !post || !patched) throw new Error('three blobs')
      expect(await outcome(await pushBlob(send, name, put))).toEqual(stored(put))
      expect(
        await outcome(await send('POST', withDigest(uploads, post.digest), { body: post.bytes })),
      ).toEqual(stored(post))
      const sent = await chunk(await startUpload(send, name), patched.bytes, 0)
      expect(
        await outcome(await send('PUT', withDigest(locationOf(sent), patched.digest))),
      ).toEqual(stored(patched))
    })

    it('takes one streamed PATCH without a range', async () => {
      const blob = sampleBlob(3000)
      const sent = await send('PATCH', await startUpload(send, name), { body: blob.bytes })
      expect([sent.status, sent.headers.get('range')]).toEqual([202, '0-2999'])
      expect(await outcome(await send('PUT', withDigest(locationOf(sent), blob.digest)))).toEqual(
        stored(blob),
      )
    })

    it('takes chunks, the last one with the PUT', async () => {
      const blob = sampleBlob(3000)
      const first = await chunk(await startUpload(send, name), blob.bytes.subarray(0, 1000), 0)
      const second = await chunk(locationOf(first), blob.bytes.subarray(1000, 2000), 1000)
      expect([second.status, second.headers.get('range')]).toEqual([202, '0-1999'])
      const last = await send('PUT', withDigest(locationOf(second), blob.digest), {
        body: blob.bytes.subarray(2000),
        headers: { 'content-range': '2000-2999' },
      })
      expect(await outcome(last)).toEqual(stored(blob))
    })

    it('refuses chunks out of order with 416, and goes on after them', async () => {
      const blob = sampleBlob(3000)
      const location = await startUpload(send, name)
      expect((await chunk(location, blob.bytes.subarray(1000), 1000)).status).toBe(416)
      const empty = await send('GET', location)
      expect([empty.status, empty.headers.get('range')]).toEqual([204, '0-0'])
      const first = await chunk(location, blob.bytes.subarray(0, 1000), 0)
      expect((await chunk(locationOf(first), blob.bytes.subarray(0, 1000), 0)).status).toBe(416)
      const put = withDigest(location, blob.digest)
      const body = blob.bytes.subarray(2000)
      const headers = { 'content-range': '2000-2999' }
      expect((await send('PUT', put, { body, headers })).status).toBe(416)
      const status = await send('GET', location)
      expect([status.status, status.headers.get('range')]).toEqual([204, '0-999'])
      await chunk(locationOf(status), blob.bytes.subarray(1000), 1000)
      expect(await outcome(await send('PUT', put))).toEqual(stored(blob))
    })

    it('refuses the wrong digest and what is no digest, on every way', async () => {
      const { bytes } = sampleBlob(100)
      for (const digest of [sampleBlob(1).digest, 'sha256:baddigeststring']) {
        const post = await send('POST', withDigest(uploads, digest), { body: bytes })
        const put = await send('PUT', withDigest(await startUpload(send, name), digest), {
          body: bytes,
        })
        const sent = await chunk(await startUpload(send, name), bytes, 0)
        const end = await send('PUT', withDigest(locationOf(sent), digest))
        for (const answer of [post, put, end]) {
          expect([answer.status, errorCodeOf(answer)]).toEqual([400, 'DIGEST_INVALID'])
        }
      }
      expect((await send('PUT', await startUpload(send, name))).status).toBe(400)
    })

    it('takes an empty blob', async () => {
      const blob = sampleBlob(0)
      expect(
        await outcome(await send('PUT', withDigest(await startUpload(send, name), blob.digest))),
      ).toEqual(stored(blob))
    })

    it('mounts a blob of another repository, or starts an upload', async () => {
      const blob = sampleBlob(100)
      await pushBlob(send, name, blob)
      const mount = (from: string, digest: string) =>
        send('POST', `/v2/${name}/mounted/blobs/uploads/?mount=${digest}${from}`)
      expect(await outcome(await mount(`&from=${name}`, blob.digest))).toEqual(stored(blob))
      const absent = await mount(`&from=${name}`, sampleBlob(1).digest)
      const anonymous = await mount('', sampleBlob(1).digest)
      for (const answer of [absent, anonymous]) {
        expect(answer.status).toBe(202)
        expect((await send('GET', locationOf(answer))).status).toBe(204)
      }
    })

    it('end-14: cancels an upload', async () => {
      const location = await startUpload(send, name)
      expect((await send('DELETE', location)).status).toBe(204)
      for (const method of ['GET', 'DELETE', 'PATCH']) {
        const answer = await send(method, location)
        expect([method, answer.status]).toEqual([method, 404])
      }
    })

    it('keeps the query out of locations', async () => {
      expect(await startUpload(send, name)).not.toContain('?')
    })
  })
}
