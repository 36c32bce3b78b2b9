import { beforeAll, describe, expect, it } from 'vitest'
import { errorCodeOf, pushBlob, sampleBlob, type Subject } from './client.ts'

export function pullConformance({ name, send }: Subject): void {
  describe('end-2: pulling blobs', () => {
    const blob = sampleBlob(5000)
    const path = `/v2/${name}/blobs/${blob.digest}`
    const range = (value: string) => send('GET', path, { headers: { range: value } })

    beforeAll(async () => {
      await pushBlob(send, name, blob)
    })

    it('answers the bytes with their digest', async () => {
      const answer = await send('GET', path)
      expect(answer.status).toBe(200)
      expect(answer.body.equals(blob.bytes)).toBe(true)
      expect(answer.headers.get('docker-content-digest')).toBe(blob.digest)
    })

    it('answers HEAD with size and digest', async () => {
      const answer = await send('HEAD', path)
      expect(answer.status).toBe(200)
      expect(answer.headers.get('content-length')).toBe('5000')
      expect(answer.headers.get('docker-content-digest')).toBe(blob.digest)
      expect(answer.body).toHaveLength(0)
    })

    it('answers ranges, clamped to the blob', async () => {
      const expected = [
        ['bytes=500-1499', 500, 1500],
        ['bytes=500-', 500, 5000],
        ['bytes=-500', 4500, 5000],
        ['bytes=2000-9000', 2000, 5000],
      ] as const
      for (const [header, start, end] of expected) {
        const answer = await range(header)
        expect([header, answer.status]).toEqual([header, 206])
        expect(answer.headers.get('content-range')).toBe(`bytes ${start}-${end - 1}/5000`)
        expect(answer.headers.get('content-length')).toBe(String(end - start))
        expect(answer.body.equals(blob.bytes.subarray(start, end))).toBe(true)
      }
    })

    it('answers 416 for ranges without bytes', async () => {
      for (const header of ['bytes=500-0', 'bytes=5000-10000']) {
        const answer = await range(header)
        expect([header, answer.status]).toEqual([header, 416])
        expect(answer.headers.get('content-range')).toBe('bytes */5000')
      }
    })

    it('answers the range only where If-Range still holds', async () => {
      const headers = { range: 'bytes=0-9' }
      const same = { ...headers, 'if-range': `"${blob.digest}"` }
      const other = { ...headers, 'if-range': '"other"' }
      expect((await send('GET', path, { headers: same })).status).toBe(206)
      expect((await send('GET', path, { headers: other })).status).toBe(200)
    })

    it('answers 304 to who has it already', async () => {
      const headers = { 'if-none-match': `"${blob.digest}"` }
      const answer = await send('GET', path, { headers })
      expect([answer.status, answer.body.length]).toEqual([304, 0])
    })

    it('answers 404 for what it does not have, and 400 for what is no digest', async () => {
      const absent = await send('GET', `/v2/${name}/blobs/${sampleBlob(1).digest}`)
      expect([absent.status, errorCodeOf(absent)]).toEqual([404, 'BLOB_UNKNOWN'])
      const invalid = await send('GET', `/v2/${name}/blobs/sha256:baddigeststring`)
      expect([invalid.status, errorCodeOf(invalid)]).toEqual([400, 'DIGEST_INVALID'])
      expect((await send('HEAD', `/v2/${name}/blobs/${sampleBlob(1).digest}`)).status).toBe(404)
    })

    it('end-10: deletes a blob at once', async () => {
      const other = sampleBlob(100)
      await pushBlob(send, name, other)
      const otherPath = `/v2/${name}/blobs/${other.digest}`
      expect((await send('DELETE', otherPath)).status).toBe(202)
      expect((await send('HEAD', otherPath)).status).toBe(404)
      expect((await send('DELETE', otherPath)).status).toBe(404)
    })
  })
}
