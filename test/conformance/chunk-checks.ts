import { randomUUID } from 'node:crypto'
import {
  expectBody,
  expectEqual,
  expectHeader,
  expectStatus,
  type Check,
  type Trial,
} from './check.ts'
import { locationOf, withDigest, type Answer } from './client.ts'
import { sampleBlob, sendChunk, startUpload, type SampleBlob } from './content.ts'

/** An upload with the first 1000 of 3000 bytes sent. */
async function started(trial: Trial) {
  const blob = sampleBlob(3000)
  const original = await startUpload(trial)
  const answer = await sendChunk(trial, original, { bytes: blob.bytes.subarray(0, 1000), start: 0 })
  expectStatus(answer, 202)
  return { blob, original, answer, location: locationOf(answer) }
}

/** Sends the other 2000 bytes; fails unless the blob is there then. */
async function completes(trial: Trial, location: string, blob: SampleBlob): Promise<void> {
  const sent = await sendChunk(trial, location, { bytes: blob.bytes.subarray(1000), start: 1000 })
  expectStatus(sent, 202)
  const answer = await trial.send('PUT', withDigest(locationOf(sent), blob.digest))
  expectStatus(answer, 201)
  expectBody(await trial.send('GET', locationOf(answer)), blob.bytes)
}

/** Fails unless the session still has exactly the first 1000 bytes and can go on. */
async function survives(
  trial: Trial,
  { location, blob }: Awaited<ReturnType<typeof started>>,
): Promise<void> {
  const status = await trial.send('GET', location)
  expectStatus(status, 204)
  expectHeader(status, 'range', '0-999')
  await completes(trial, locationOf(status), blob)
}

function outOfOrder(title: string, start: number, send: 'PATCH' | 'PUT'): Check {
  return {
    endpoint: send === 'PATCH' ? 'end-5' : 'end-6',
    level: '1.1',
    title: `refuses a ${send} ${title} with 416, and the upload goes on`,
    async run(trial) {
      const upload = await started(trial)
      const { blob, location } = upload
      const bytes = blob.bytes.subarray(start, start + 1000)
      const refused: Answer =
        send === 'PATCH'
          ? await sendChunk(trial, location, { bytes, start })
          : await trial.send('PUT', withDigest(location, blob.digest), {
              body: bytes,
              headers: { 'content-range': `${start}-${start + 999}` },
            })
      expectStatus(refused, 416)
      await survives(trial, upload)
    },
  }
}

/** @see OCI distribution-spec §pushing-a-blob-in-chunks */
export const chunkChecks: readonly Check[] = [
  {
    endpoint: 'end-5',
    level: '1.1',
    title: 'answers 202 with Location and the Range taken',
    async run(trial) {
      const { answer, blob, location } = await started(trial)
      expectHeader(answer, 'range', '0-999')
      const bytes = blob.bytes.subarray(1000, 1001)
      expectHeader(await sendChunk(trial, location, { bytes, start: 1000 }), 'range', '0-1000')
    },
  },
  outOfOrder('that skips bytes', 2000, 'PATCH'),
  outOfOrder('that starts again', 0, 'PATCH'),
  outOfOrder('that skips bytes', 2000, 'PUT'),
  outOfOrder('that starts again', 0, 'PUT'),
  {
    endpoint: 'end-5',
    level: '1.1',
    title: 'refuses a first chunk that does not start at 0',
    async run(trial) {
      const location = await startUpload(trial)
      const { bytes } = sampleBlob(1000)
      expectStatus(await sendChunk(trial, location, { bytes, start: 1000 }), 416)
    },
  },
  {
    endpoint: 'end-5',
    level: '1.1',
    title: 'refuses a Content-Range that is none, or of another length',
    async run(trial) {
      const upload = await started(trial)
      for (const header of ['1000-1998', 'bytes', '1999-1000', '-1-5']) {
        const answer = await trial.send('PATCH', upload.location, {
          body: upload.blob.bytes.subarray(1000, 2000),
          headers: { 'content-range': header },
        })
        expectStatus(answer, 400, 416)
      }
      await survives(trial, upload)
    },
  },
  {
    endpoint: 'end-5',
    level: '1.1',
    title: 'answers 404 for an upload that there is not',
    async run(trial) {
      const location = await startUpload(trial)
      const other = location.replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/, randomUUID())
      const body = sampleBlob(10).bytes
      expectStatus(await trial.send('PATCH', other, { body }), 404)
    },
  },
  {
    endpoint: 'end-13',
    level: '1.1',
    title: 'answers 204 with Location and Range, from any Location of the upload',
    async run(trial) {
      const { original, location } = await started(trial)
      for (const path of [original, location]) {
        const answer = await trial.send('GET', path)
        expectStatus(answer, 204)
        expectHeader(answer, 'range', '0-999')
        locationOf(answer)
      }
    },
  },
  {
    endpoint: 'end-13',
    level: '1.1',
    title: 'answers 204 for an upload without bytes',
    async run(trial) {
      const answer = await trial.send('GET', await startUpload(trial))
      expectStatus(answer, 204)
      // There is no way to write that nothing is there.
      const range = answer.headers.get('range')
      if (range !== null) expectEqual(range, '0-0', 'Range')
    },
  },
  {
    endpoint: 'end-13',
    level: '1.1',
    title: 'answers 404 for an upload that there is not',
    async run({ send, name }) {
      expectStatus(await send('GET', `/v2/${name}/blobs/uploads/${randomUUID()}`), 404)
    },
  },
  {
    endpoint: 'end-14',
    level: 'main',
    title: 'cancels an upload, which is then gone',
    async run(trial) {
      const { location, blob } = await started(trial)
      expectStatus(await trial.send('DELETE', location), 204)
      expectStatus(await trial.send('GET', location), 404)
      expectStatus(await trial.send('DELETE', location), 404)
      expectStatus(await trial.send('PATCH', location, { body: blob.bytes }), 404)
      expectStatus(await trial.send('PUT', withDigest(location, blob.digest)), 404)
    },
  },
  {
    endpoint: 'end-14',
    level: 'main',
    title: 'answers 404 for an upload that there is not',
    async run({ send, name }) {
      expectStatus(await send('DELETE', `/v2/${name}/blobs/uploads/${randomUUID()}`), 404)
    },
  },
]
