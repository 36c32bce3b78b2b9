import {
  expectBody,
  expectHeaderIfAny,
  expectStatus,
  Unsupported,
  type Check,
  type Trial,
} from './check.ts'
import { locationOf, withDigest, type Answer } from './client.ts'
import { pushBlob, sampleBlob, type SampleBlob } from './content.ts'

const mount = ({ send, name }: Trial, digest: string, from?: string): Promise<Answer> => {
  const source = from === undefined ? '' : `&from=${encodeURIComponent(from)}`
  return send('POST', `/v2/${name}/target/blobs/uploads/?mount=${digest}${source}`)
}

async function isMounted(trial: Trial, answer: Answer, { bytes, digest }: SampleBlob) {
  if (answer.status === 202) throw new Unsupported('the blob is not mounted but to be uploaded')
  expectStatus(answer, 201)
  expectHeaderIfAny(answer, 'docker-content-digest', digest)
  for (const path of [locationOf(answer), `/v2/${trial.name}/target/blobs/${digest}`]) {
    expectBody(await trial.send('GET', path), bytes)
  }
}

/** Where nothing can be mounted, the answer is an upload as any other. */
function startsUpload(title: string, from: (trial: Trial) => string | undefined): Check {
  return {
    endpoint: 'end-11',
    level: '1.1',
    title: `starts an upload for ${title}`,
    async run(trial) {
      const blob = sampleBlob(1000)
      const answer = await mount(trial, blob.digest, from(trial))
      expectStatus(answer, 202)
      const put = withDigest(locationOf(answer), blob.digest)
      const stored = await trial.send('PUT', put, { body: blob.bytes })
      expectStatus(stored, 201)
      expectBody(await trial.send('GET', locationOf(stored)), blob.bytes)
    },
  }
}

/** @see OCI distribution-spec §mounting-a-blob-from-another-repository */
export const mountChecks: readonly Check[] = [
  {
    endpoint: 'end-11',
    level: '1.1',
    title: 'mounts a blob of another repository',
    async run(trial) {
      const blob = sampleBlob(1000)
      await pushBlob(trial, blob)
      await isMounted(trial, await mount(trial, blob.digest, trial.name), blob)
    },
  },
  {
    endpoint: 'end-11',
    level: '1.1',
    title: 'mounts a sha512 blob of another repository',
    async run(trial) {
      const blob = sampleBlob(1000, 'sha512')
      await pushBlob(trial, blob)
      await isMounted(trial, await mount(trial, blob.digest, trial.name), blob)
    },
  },
  {
    endpoint: 'end-11',
    level: '1.1',
    title: 'mounts a blob from wherever it is, without from',
    async run(trial) {
      const blob = sampleBlob(1000)
      await pushBlob(trial, blob)
      await isMounted(trial, await mount(trial, blob.digest), blob)
    },
  },
  startsUpload('a blob that the other repository does not have', ({ name }) => name),
  startsUpload('a repository that nobody has used', ({ name }) => `${name}/nothing`),
  startsUpload('a blob that is nowhere, without from', () => undefined),
  {
    endpoint: 'end-11',
    level: '1.1',
    title: 'a mounted blob stays where the other repository deletes it',
    async run(trial) {
      const blob = sampleBlob(1000)
      await pushBlob(trial, blob)
      await isMounted(trial, await mount(trial, blob.digest, trial.name), blob)
      const deleted = await trial.send('DELETE', `/v2/${trial.name}/blobs/${blob.digest}`)
      if (deleted.status === 405) throw new Unsupported('blobs cannot be deleted')
      expectStatus(deleted, 202)
      const path = `/v2/${trial.name}/target/blobs/${blob.digest}`
      expectBody(await trial.send('GET', path), blob.bytes)
    },
  },
]
