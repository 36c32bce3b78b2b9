import {
  expectBody,
  expectEqual,
  expectStatus,
  jsonOf,
  Unsupported,
  type Check,
  type Trial,
} from './check.ts'
import { descriptorOf, imageOf, pushBlob, pushImage, pushManifest, sampleBlob } from './content.ts'

/** Deletes; a registry may have that switched off. */
async function remove({ send, name }: Trial, what: string, ...disabled: number[]): Promise<void> {
  const answer = await send('DELETE', `/v2/${name}/${what}`)
  if (disabled.includes(answer.status)) throw new Unsupported('this cannot be deleted')
  expectStatus(answer, 202)
}

const removeManifest = (trial: Trial, reference: string) =>
  remove(trial, `manifests/${reference}`, 400, 405)
const removeBlob = (trial: Trial, digest: string) => remove(trial, `blobs/${digest}`, 405)

const status = async ({ send, name }: Trial, what: string): Promise<number> =>
  (await send('HEAD', `/v2/${name}/${what}`)).status

/** @see OCI distribution-spec §content-management */
export const deleteChecks: readonly Check[] = [
  {
    endpoint: 'end-9',
    level: '1.1',
    title: 'deletes a tag alone',
    async run(trial) {
      const { digest, bytes, mediaType } = await pushImage(trial, 'gone')
      await pushManifest(trial, { digest, bytes, mediaType }, 'stays')
      await removeManifest(trial, 'gone')
      expectEqual(await status(trial, 'manifests/gone'), 404, 'status of the tag')
      expectEqual(await status(trial, 'manifests/stays'), 200, 'status of the other tag')
      expectEqual(await status(trial, `manifests/${digest}`), 200, 'status of the digest')
    },
  },
  {
    endpoint: 'end-9',
    level: '1.1',
    title: 'deletes a manifest with its tags',
    async run(trial) {
      const image = await pushImage(trial, 'one')
      await pushManifest(trial, image, 'two')
      await removeManifest(trial, image.digest)
      for (const reference of ['one', 'two', image.digest]) {
        expectEqual(await status(trial, `manifests/${reference}`), 404, 'status afterwards')
      }
    },
  },
  {
    endpoint: 'end-9',
    level: '1.1',
    title: 'deletes a manifest with a sha512 digest',
    async run(trial) {
      const image = await imageOf(trial, {}, 'sha512')
      await pushManifest(trial, image)
      await removeManifest(trial, image.digest)
      expectEqual(await status(trial, `manifests/${image.digest}`), 404, 'status afterwards')
    },
  },
  {
    endpoint: 'end-9',
    level: '1.1',
    title: 'no longer lists the tags of what was deleted',
    async run(trial) {
      await pushImage(trial, 'stays')
      const { digest } = await pushImage(trial, 'gone')
      await removeManifest(trial, digest)
      const list = await trial.send('GET', `/v2/${trial.name}/tags/list`)
      expectEqual(Object(jsonOf(list)).tags, ['stays'], 'tags')
    },
  },
  {
    endpoint: 'end-9',
    level: '1.1',
    title: 'answers 404 for a manifest that is not there',
    async run(trial) {
      await removeManifest(trial, (await pushImage(trial, 'first')).digest)
      const path = `/v2/${trial.name}/manifests`
      expectStatus(await trial.send('DELETE', `${path}/${sampleBlob(32).digest}`), 404)
      const answer = await trial.send('DELETE', `${path}/absent`)
      expectStatus(answer, 404, 400, 405)
      if (answer.status !== 404) throw new Unsupported('tags cannot be deleted')
    },
  },
  {
    endpoint: 'end-9',
    level: '1.1',
    title: 'takes the manifest again after its deletion',
    async run(trial) {
      const image = await pushImage(trial, 'again')
      await removeManifest(trial, image.digest)
      await pushManifest(trial, image, 'again')
      expectBody(await trial.send('GET', `/v2/${trial.name}/manifests/again`), image.bytes)
    },
  },
  {
    endpoint: 'end-10',
    level: '1.1',
    title: 'deletes a blob at once',
    async run(trial) {
      const blob = sampleBlob(100)
      await pushBlob(trial, blob)
      await removeBlob(trial, blob.digest)
      expectEqual(await status(trial, `blobs/${blob.digest}`), 404, 'status of HEAD')
      const pulled = await trial.send('GET', `/v2/${trial.name}/blobs/${blob.digest}`)
      expectStatus(pulled, 404)
    },
  },
  {
    endpoint: 'end-10',
    level: '1.1',
    title: 'deletes a sha512 blob at once',
    async run(trial) {
      const blob = sampleBlob(100, 'sha512')
      await pushBlob(trial, blob)
      await removeBlob(trial, blob.digest)
      expectEqual(await status(trial, `blobs/${blob.digest}`), 404, 'status of HEAD')
    },
  },
  {
    endpoint: 'end-10',
    level: '1.1',
    title: 'answers 404 for a blob that is not there, also the second time',
    async run(trial) {
      const blob = sampleBlob(100)
      await pushBlob(trial, blob)
      await removeBlob(trial, blob.digest)
      for (const digest of [blob.digest, sampleBlob(32).digest]) {
        expectStatus(await trial.send('DELETE', `/v2/${trial.name}/blobs/${digest}`), 404)
      }
    },
  },
  {
    endpoint: 'end-10',
    level: '1.1',
    title: 'takes the blob again after its deletion',
    async run(trial) {
      const blob = sampleBlob(100)
      await pushBlob(trial, blob)
      await removeBlob(trial, blob.digest)
      await pushBlob(trial, blob)
      expectBody(await trial.send('GET', `/v2/${trial.name}/blobs/${blob.digest}`), blob.bytes)
    },
  },
  {
    endpoint: 'end-10',
    level: '1.1',
    title: 'a manifest may be deleted before and after its blobs',
    async run(trial) {
      const layer = sampleBlob(100)
      await pushBlob(trial, layer)
      const image = await pushImage(trial, 'both', { layers: [descriptorOf(layer)] })
      await removeManifest(trial, image.digest)
      await removeBlob(trial, layer.digest)
      const other = await pushImage(trial, 'other')
      const config = /"digest":"(sha256:[0-9a-f]{64})"/.exec(other.bytes.toString())?.[1] ?? ''
      const answer = await trial.send('DELETE', `/v2/${trial.name}/blobs/${config}`)
      // Something that is in use may also be refused.
      expectStatus(answer, 202, 403, 409)
      await removeManifest(trial, other.digest)
    },
  },
]
