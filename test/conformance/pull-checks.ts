import {
  expectBody,
  expectEqual,
  expectHeader,
  expectHeaderIfAny,
  expectStatus,
  Unsupported,
  type Check,
  type Trial,
} from './check.ts'
import type { Answer } from './client.ts'
import { blobOf, pushBlob, sampleBlob } from './content.ts'

const size = 5000

async function pushed(trial: Trial) {
  const blob = sampleBlob(size)
  await pushBlob(trial, blob)
  const path = `/v2/${trial.name}/blobs/${blob.digest}`
  const get = (headers: Readonly<Record<string, string>> = {}) =>
    trial.send('GET', path, { headers })
  return { ...blob, path, get }
}

/** A registry may answer every range with all of it. */
function requireRange(answer: Answer): void {
  if (answer.status === 200) throw new Unsupported('ranges are answered with the whole blob')
}

function range(header: string, start: number, end: number): Check {
  return {
    endpoint: 'end-2',
    level: '1.1',
    title: `answers the range ${header} of ${size} bytes`,
    async run(trial) {
      const { bytes, get } = await pushed(trial)
      const answer = await get({ range: header })
      requireRange(answer)
      expectStatus(answer, 206)
      expectHeader(answer, 'content-range', `bytes ${start}-${end - 1}/${size}`)
      expectHeader(answer, 'content-length', String(end - start))
      expectBody(answer, bytes.subarray(start, end))
    },
  }
}

function emptyRange(header: string): Check {
  return {
    endpoint: 'end-2',
    level: '1.1',
    title: `answers 416 for the range ${header} of ${size} bytes`,
    async run(trial) {
      const { get } = await pushed(trial)
      const answer = await get({ range: header })
      requireRange(answer)
      expectStatus(answer, 416)
      expectHeaderIfAny(answer, 'content-range', `bytes */${size}`)
    },
  }
}

function wholeDespite(header: string, title: string, ...refusals: number[]): Check {
  return {
    endpoint: 'end-2',
    level: '1.1',
    title,
    async run(trial) {
      const { bytes, get } = await pushed(trial)
      const answer = await get({ range: header })
      const isMultipart = answer.headers.get('content-type')?.startsWith('multipart/byteranges')
      if (answer.status === 206 && isMultipart === true) return
      expectStatus(answer, 200, ...refusals)
      if (answer.status === 200) expectBody(answer, bytes)
    },
  }
}

function exact(title: string, content: Buffer): Check {
  return {
    endpoint: 'end-2',
    level: '1.1',
    title: `answers ${title}`,
    async run(trial) {
      const blob = blobOf(content)
      await pushBlob(trial, blob)
      const path = `/v2/${trial.name}/blobs/${blob.digest}`
      const answer = await trial.send('GET', path)
      expectStatus(answer, 200)
      expectBody(answer, blob.bytes)
      const head = await trial.send('HEAD', path)
      expectStatus(head, 200)
      expectHeaderIfAny(head, 'content-length', String(blob.bytes.length))
    },
  }
}

async function etagOf({ get }: Awaited<ReturnType<typeof pushed>>): Promise<string> {
  const etag = (await get()).headers.get('etag')
  if (etag === null) throw new Unsupported('blobs have no ETag')
  return etag
}

/** @see OCI distribution-spec §pulling-blobs */
export const pullChecks: readonly Check[] = [
  {
    endpoint: 'end-1',
    level: '1.1',
    title: 'answers the probe',
    async run({ send }) {
      const answer = await send('GET', '/v2/')
      expectStatus(answer, 200)
      expectHeaderIfAny(answer, 'docker-distribution-api-version', 'registry/2.0')
    },
  },
  {
    endpoint: 'end-2',
    level: '1.1',
    title: 'GET answers the exact bytes',
    async run(trial) {
      const { bytes, digest, get } = await pushed(trial)
      const answer = await get()
      expectStatus(answer, 200)
      expectBody(answer, bytes)
      expectHeaderIfAny(answer, 'content-length', String(size))
      expectHeaderIfAny(answer, 'docker-content-digest', digest)
    },
  },
  {
    endpoint: 'end-2',
    level: '1.1',
    title: 'HEAD answers no bytes, and length and digest not wrong',
    async run(trial) {
      const { digest, path } = await pushed(trial)
      const answer = await trial.send('HEAD', path)
      expectStatus(answer, 200)
      expectEqual(answer.body.length, 0, 'bytes of the body')
      expectHeaderIfAny(answer, 'content-length', String(size))
      expectHeaderIfAny(answer, 'docker-content-digest', digest)
    },
  },
  {
    endpoint: 'end-2',
    level: 'main',
    title: 'GET and HEAD answer Docker-Content-Digest, HEAD the Content-Length',
    async run(trial) {
      const { digest, get, path } = await pushed(trial)
      expectHeader(await get(), 'docker-content-digest', digest)
      const head = await trial.send('HEAD', path)
      expectHeader(head, 'docker-content-digest', digest)
      expectHeader(head, 'content-length', String(size))
    },
  },
  exact('a blob without bytes', Buffer.alloc(0)),
  exact('a blob of one byte', Buffer.alloc(1)),
  exact('the blob {}', Buffer.from('{}')),
  range('bytes=500-1499', 500, 1500),
  range('bytes=500-', 500, size),
  range('bytes=-500', size - 500, size),
  range('bytes=2000-9000', 2000, size),
  range('bytes=0-0', 0, 1),
  range('bytes=-9000', 0, size),
  emptyRange('bytes=500-0'),
  emptyRange('bytes=5000-10000'),
  emptyRange('bytes=-0'),
  wholeDespite('items=0-9', 'answers a range of an unknown unit with all bytes'),
  wholeDespite('bytes=0-9,20-29', 'answers several ranges as such, or with all bytes'),
  wholeDespite('bytes=a-b', 'answers what is no range with all bytes, or refuses it', 400, 416),
  {
    endpoint: 'end-2',
    level: '1.1',
    title: 'HEAD with a range answers the whole length',
    async run(trial) {
      const { path } = await pushed(trial)
      const answer = await trial.send('HEAD', path, { headers: { range: 'bytes=0-9' } })
      // A range is defined for GET only; some answer as for GET.
      expectStatus(answer, 200, 206)
      const length = answer.status === 200 ? String(size) : '10'
      expectHeaderIfAny(answer, 'content-length', length)
    },
  },
  {
    endpoint: 'end-2',
    level: '1.1',
    title: 'answers a range where If-Range has the ETag, else all bytes',
    async run(trial) {
      const blob = await pushed(trial)
      const etag = await etagOf(blob)
      const same = await blob.get({ range: 'bytes=0-9', 'if-range': etag })
      requireRange(same)
      expectStatus(same, 206)
      const other = await blob.get({ range: 'bytes=0-9', 'if-range': '"other"' })
      expectStatus(other, 200)
      expectBody(other, blob.bytes)
    },
  },
  {
    endpoint: 'end-2',
    level: '1.1',
    title: 'answers 304 where If-None-Match has the ETag',
    async run(trial) {
      const blob = await pushed(trial)
      const etag = await etagOf(blob)
      expectStatus(await blob.get({ 'if-none-match': etag }), 304)
      expectStatus(await blob.get({ 'if-none-match': '"other"' }), 200)
    },
  },
  {
    endpoint: 'end-2',
    level: '1.1',
    title: 'answers 404 for a blob that is not there',
    async run(trial) {
      await pushBlob(trial, sampleBlob(32))
      const path = `/v2/${trial.name}/blobs/${sampleBlob(32).digest}`
      expectStatus(await trial.send('GET', path), 404)
      expectStatus(await trial.send('HEAD', path), 404)
      expectStatus(await trial.send('GET', path, { headers: { range: 'bytes=0-9' } }), 404)
    },
  },
  {
    endpoint: 'end-2',
    level: '1.1',
    title: 'answers 404 in a repository that nobody has used',
    async run({ name, send }) {
      const path = `/v2/${name}/blobs/${sampleBlob(32).digest}`
      expectStatus(await send('GET', path), 404)
      expectStatus(await send('HEAD', path), 404)
    },
  },
  {
    endpoint: 'end-2',
    level: '1.1',
    title: 'answers 404 for a blob of another repository',
    async run(trial) {
      const { digest } = await pushed(trial)
      expectStatus(await trial.send('GET', `/v2/${trial.name}/other/blobs/${digest}`), 404)
    },
  },
  {
    endpoint: 'end-2',
    level: '1.1',
    title: 'refuses what is no digest',
    async run({ name, send }) {
      expectStatus(await send('GET', `/v2/${name}/blobs/sha256:baddigeststring`), 400, 404)
      expectStatus(await send('HEAD', `/v2/${name}/blobs/sha256:baddigeststring`), 400, 404)
    },
  },
]
