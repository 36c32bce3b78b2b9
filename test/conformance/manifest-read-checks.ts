import { expectHeader, expectStatus, type Check } from './check.ts'
import { pushBlob, pushImage, sampleBlob } from './content.ts'

/** @see OCI distribution-spec §pulling-manifests */
export const manifestReadChecks: readonly Check[] = [
  {
    endpoint: 'end-3',
    level: '1.1',
    title: 'answers 404 for a tag or digest that is not there',
    async run(trial) {
      await pushImage(trial, 'other')
      for (const reference of ['absent', sampleBlob(32).digest]) {
        const path = `/v2/${trial.name}/manifests/${reference}`
        expectStatus(await trial.send('GET', path), 404)
        expectStatus(await trial.send('HEAD', path), 404)
      }
    },
  },
  {
    endpoint: 'end-3',
    level: '1.1',
    title: 'answers 404 in a repository that nobody has used',
    async run({ name, send }) {
      expectStatus(await send('GET', `/v2/${name}/manifests/absent`), 404)
      expectStatus(await send('HEAD', `/v2/${name}/manifests/${sampleBlob(32).digest}`), 404)
    },
  },
  {
    endpoint: 'end-3',
    level: '1.1',
    title: 'refuses what is neither tag nor digest',
    async run({ name, send }) {
      for (const reference of ['sha256:baddigeststring', '.tag']) {
        expectStatus(await send('GET', `/v2/${name}/manifests/${reference}`), 400, 404)
      }
    },
  },
  {
    endpoint: 'end-3',
    level: '1.1',
    title: 'a blob is no manifest',
    async run(trial) {
      const blob = sampleBlob(100)
      await pushBlob(trial, blob)
      expectStatus(await trial.send('GET', `/v2/${trial.name}/manifests/${blob.digest}`), 404)
    },
  },
  {
    endpoint: 'end-3',
    level: 'main',
    title: 'GET and HEAD answer Docker-Content-Digest, HEAD the Content-Length',
    async run(trial) {
      const { bytes, digest } = await pushImage(trial, 'said')
      for (const method of ['GET', 'HEAD']) {
        const answer = await trial.send(method, `/v2/${trial.name}/manifests/said`)
        expectHeader(answer, 'docker-content-digest', digest)
        expectHeader(answer, 'content-length', String(bytes.length))
      }
    },
  },
]
