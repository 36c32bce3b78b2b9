import type { DigestAlgorithm } from '../../core/digest.ts'
import {
  expectBody,
  expectHeader,
  expectHeaderIfAny,
  expectStatus,
  Unsupported,
  type Check,
  type Trial,
} from './check.ts'
import { locationOf, withDigest, type Answer } from './client.ts'
import { pushBlob, sampleBlob, sendChunk, startUpload, type SampleBlob } from './content.ts'

type Way = (trial: Trial, blob: SampleBlob) => Promise<Answer>

/** Every way to push a blob; each ends with the answer that should be 201. */
const ways = {
  'POST, then PUT with all bytes': async (trial, { bytes, digest }) =>
    trial.send('PUT', withDigest(await startUpload(trial), digest), { body: bytes }),
  'a single POST': async ({ send, name }, { bytes, digest }) => {
    const answer = await send('POST', withDigest(`/v2/${name}/blobs/uploads/`, digest), {
      body: bytes,
    })
    if (answer.status === 202) throw new Unsupported('a single POST only starts an upload')
    return answer
  },
  'a PATCH with its length, then PUT': async (trial, { bytes, digest }) => {
    const sent = await trial.send('PATCH', await startUpload(trial), { body: bytes })
    expectStatus(sent, 202)
    return trial.send('PUT', withDigest(locationOf(sent), digest))
  },
  'a PATCH of unknown length, then PUT': async (trial, { bytes, digest }) => {
    const sent = await trial.send('PATCH', await startUpload(trial), { body: streamed(bytes) })
    expectStatus(sent, 202)
    return trial.send('PUT', withDigest(locationOf(sent), digest))
  },
  'chunks, then PUT': async (trial, { bytes, digest }) => {
    const location = await chunks(trial, bytes, 1000)
    return trial.send('PUT', withDigest(location, digest))
  },
  'chunks, the last one with the PUT': async (trial, { bytes, digest }) => {
    const end = bytes.length - 500
    const location = await chunks(trial, bytes.subarray(0, end), 1000)
    return trial.send('PUT', withDigest(location, digest), {
      body: bytes.subarray(end),
      headers: { 'content-range': `${end}-${bytes.length - 1}` },
    })
  },
} as const satisfies Record<string, Way>

async function* streamed(bytes: Buffer): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += 700) yield bytes.subarray(at, at + 700)
}

async function chunks(trial: Trial, bytes: Buffer, step: number): Promise<string> {
  let location = await startUpload(trial)
  for (let start = 0; start < bytes.length; start += step) {
    const chunk = bytes.subarray(start, start + step)
    const answer = await sendChunk(trial, location, { bytes: chunk, start })
    expectStatus(answer, 202)
    location = locationOf(answer)
  }
  return location
}

const endpointOf = (way: string): Check['endpoint'] =>
  way === 'a single POST' ? 'end-4b' : way.startsWith('POST') ? 'end-6' : 'end-5'

function takes(way: keyof typeof ways, algorithm: DigestAlgorithm): Check {
  return {
    endpoint: endpointOf(way),
    level: '1.1',
    title: `takes a ${algorithm} blob by ${way}`,
    async run(trial) {
      const blob = sampleBlob(2700, algorithm)
      const answer = await ways[way](trial, blob)
      expectStatus(answer, 201)
      expectHeaderIfAny(answer, 'docker-content-digest', blob.digest)
      for (const path of [locationOf(answer), `/v2/${trial.name}/blobs/${blob.digest}`]) {
        const pulled = await trial.send('GET', path)
        expectStatus(pulled, 200)
        expectBody(pulled, blob.bytes)
        expectHeaderIfAny(pulled, 'docker-content-digest', blob.digest)
      }
    },
  }
}

function refuses(way: keyof typeof ways): Check {
  return {
    endpoint: endpointOf(way),
    level: '1.1',
    title: `refuses a wrong digest by ${way}, and keeps nothing`,
    async run(trial) {
      const { bytes } = sampleBlob(2700)
      const { digest } = sampleBlob(32)
      expectStatus(await ways[way](trial, { bytes, digest }), 400)
      expectStatus(await trial.send('HEAD', `/v2/${trial.name}/blobs/${digest}`), 404)
      expectStatus(await ways[way](trial, { bytes, digest: 'sha256:baddigeststring' }), 400)
    },
  }
}

/** @see OCI distribution-spec §pushing-blobs */
export const pushChecks: readonly Check[] = [
  {
    endpoint: 'end-4a',
    level: '1.1',
    title: 'starts an upload with a Location that has a session id',
    async run(trial) {
      const first = await startUpload(trial)
      const second = await startUpload(trial)
      if (first === second) throw new Error('two uploads have the same Location')
      if (!/[0-9A-Za-z_=-]{16,}/.test(first)) throw new Error('the Location has no session id')
    },
  },
  {
    endpoint: 'end-4a',
    level: '1.1',
    title: 'OCI-Chunk-Min-Length, if any, is a number of bytes',
    async run({ send, name }) {
      const answer = await send('POST', `/v2/${name}/blobs/uploads/`)
      expectStatus(answer, 202)
      const least = answer.headers.get('oci-chunk-min-length')
      if (least !== null && !/^\d+$/.test(least)) throw new Error(`it is ${least}`)
    },
  },
  takes('POST, then PUT with all bytes', 'sha256'),
  takes('POST, then PUT with all bytes', 'sha512'),
  takes('a single POST', 'sha256'),
  takes('a single POST', 'sha512'),
  takes('a PATCH with its length, then PUT', 'sha256'),
  takes('a PATCH with its length, then PUT', 'sha512'),
  takes('a PATCH of unknown length, then PUT', 'sha256'),
  takes('a PATCH of unknown length, then PUT', 'sha512'),
  takes('chunks, then PUT', 'sha256'),
  takes('chunks, then PUT', 'sha512'),
  takes('chunks, the last one with the PUT', 'sha256'),
  takes('chunks, the last one with the PUT', 'sha512'),
  refuses('POST, then PUT with all bytes'),
  refuses('a single POST'),
  refuses('a PATCH with its length, then PUT'),
  refuses('chunks, then PUT'),
  refuses('chunks, the last one with the PUT'),
  {
    endpoint: 'end-4c',
    level: 'main',
    title: 'takes a sha512 blob in chunks where digest-algorithm announces it',
    async run(trial) {
      const blob = sampleBlob(2000, 'sha512')
      const location = await startUpload(trial, '?digest-algorithm=sha512')
      const sent = await sendChunk(trial, location, { bytes: blob.bytes, start: 0 })
      expectStatus(sent, 202)
      const answer = await trial.send('PUT', withDigest(locationOf(sent), blob.digest))
      expectStatus(answer, 201)
      expectHeader(
        await trial.send('GET', locationOf(answer)),
        'docker-content-digest',
        blob.digest,
      )
    },
  },
  {
    endpoint: 'end-4c',
    level: 'main',
    title: 'refuses a digest-algorithm that it does not know',
    async run({ send, name }) {
      const query = '?digest-algorithm=md5'
      const answer = await send('POST', `/v2/${name}/blobs/uploads/${query}`)
      if (answer.status === 202) throw new Unsupported('digest-algorithm is ignored')
      expectStatus(answer, 400)
    },
  },
  {
    endpoint: 'end-6',
    level: '1.1',
    title: 'refuses a PUT without a digest',
    async run(trial) {
      const location = await startUpload(trial)
      expectStatus(await trial.send('PUT', location, { body: sampleBlob(10).bytes }), 400)
    },
  },
  {
    endpoint: 'end-6',
    level: '1.1',
    title: 'ends the session with the blob',
    async run(trial) {
      const blob = sampleBlob(100)
      const location = await startUpload(trial)
      expectStatus(
        await trial.send('PUT', withDigest(location, blob.digest), { body: blob.bytes }),
        201,
      )
      expectStatus(await trial.send('GET', location), 404)
      expectStatus(await trial.send('PATCH', location, { body: blob.bytes }), 404)
    },
  },
  {
    endpoint: 'end-6',
    level: '1.1',
    title: 'takes a blob that is there already',
    async run(trial) {
      const blob = sampleBlob(100)
      await pushBlob(trial, blob)
      await pushBlob(trial, blob)
      expectBody(await trial.send('GET', `/v2/${trial.name}/blobs/${blob.digest}`), blob.bytes)
    },
  },
  {
    endpoint: 'end-6',
    level: 'main',
    title: 'answers 201 with Docker-Content-Digest',
    async run(trial) {
      const blob = sampleBlob(100)
      expectHeader(await pushBlob(trial, blob), 'docker-content-digest', blob.digest)
    },
  },
]
