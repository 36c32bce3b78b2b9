import { mediaTypes } from '../../core/manifest.ts'
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
import { locationOf } from './client.ts'
import {
  blobOf,
  descriptorOf,
  emptyType,
  imageOf,
  manifestOf,
  pushBlob,
  pushImage,
  pushManifest,
  putManifest,
  sampleBlob,
  type SampleManifest,
} from './content.ts'

/** Fails unless the manifest comes back as it was pushed. */
async function expectServed(
  { send, name }: Trial,
  { bytes, digest, mediaType }: SampleManifest,
  reference: string,
): Promise<void> {
  const path = `/v2/${name}/manifests/${reference}`
  const pulled = await send('GET', path)
  expectStatus(pulled, 200)
  expectBody(pulled, bytes)
  expectHeader(pulled, 'content-type', mediaType)
  expectHeaderIfAny(pulled, 'docker-content-digest', digest)
  const head = await send('HEAD', path)
  expectStatus(head, 200)
  expectEqual(head.body.length, 0, 'bytes of the body')
  expectHeader(head, 'content-type', mediaType)
  expectHeaderIfAny(head, 'content-length', String(bytes.length))
  expectHeaderIfAny(head, 'docker-content-digest', digest)
}

/** The manifest is made, pushed by tag, and then comes back by tag and by digest. */
function takes(title: string, make: (trial: Trial) => Promise<SampleManifest>): Check {
  return {
    endpoint: 'end-7a',
    level: '1.1',
    title: `takes ${title}`,
    async run(trial) {
      const manifest = await make(trial)
      const answer = await pushManifest(trial, manifest, 'taken')
      expectHeaderIfAny(answer, 'docker-content-digest', manifest.digest)
      await expectServed(trial, manifest, 'taken')
      await expectServed(trial, manifest, manifest.digest)
      expectBody(await trial.send('GET', locationOf(answer)), manifest.bytes)
    },
  }
}

const indexOf = async (trial: Trial, fields: Readonly<Record<string, unknown>> = {}) => {
  const child = await pushImage(trial, 'child')
  const manifests = [descriptorOf(child, child.mediaType)]
  return manifestOf(mediaTypes.ociIndex, { manifests, ...fields })
}

async function dockerImageOf(trial: Trial): Promise<SampleManifest> {
  const config = sampleBlob(30)
  const layer = sampleBlob(300)
  await pushBlob(trial, config)
  await pushBlob(trial, layer)
  return manifestOf(mediaTypes.dockerManifest, {
    config: descriptorOf(config, 'application/vnd.docker.container.image.v1+json'),
    layers: [descriptorOf(layer, 'application/vnd.docker.image.rootfs.diff.tar.gzip')],
  })
}

const foreignType = 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip'

/** @see OCI distribution-spec §pushing-manifests, §pulling-manifests */
export const manifestChecks: readonly Check[] = [
  takes('an image', imageOf),
  takes('an image with unknown fields, byte by byte', async (trial) => {
    const { bytes } = await imageOf(trial, { 'org.example.unknown': { kept: [1, 2.0, null] } })
    const text = `${bytes.toString()}\n  `.replace('{', '{\n\t')
    return { mediaType: mediaTypes.ociManifest, ...blobOf(Buffer.from(text)) }
  }),
  takes('an image with layers', async (trial) => {
    const layers = [sampleBlob(300), sampleBlob(301)]
    for (const layer of layers) await pushBlob(trial, layer)
    return imageOf(trial, { layers: layers.map((layer) => descriptorOf(layer)) })
  }),
  takes('an image with a sha512 layer', async (trial) => {
    const layer = sampleBlob(300, 'sha512')
    await pushBlob(trial, layer)
    return imageOf(trial, { layers: [descriptorOf(layer)] })
  }),
  takes('an artifact with the empty config', async (trial) => {
    const empty = blobOf(Buffer.from('{}'))
    await pushBlob(trial, empty)
    const config = descriptorOf(empty, emptyType)
    return imageOf(trial, {
      artifactType: 'application/vnd.example+type',
      config,
      layers: [config],
    })
  }),
  takes('an index', indexOf),
  takes('an index without manifests', (trial) => indexOf(trial, { manifests: [] })),
  takes('an index of an index', async (trial) => {
    const inner = await indexOf(trial)
    await pushManifest(trial, inner)
    return manifestOf(mediaTypes.ociIndex, {
      manifests: [descriptorOf(inner, inner.mediaType)],
    })
  }),
  takes('a Docker image', dockerImageOf),
  takes('a Docker manifest list', async (trial) => {
    const child = await dockerImageOf(trial)
    await pushManifest(trial, child)
    const platform = { architecture: 'amd64', os: 'linux' }
    return manifestOf(mediaTypes.dockerList, {
      manifests: [{ ...descriptorOf(child, child.mediaType), platform }],
    })
  }),
  takes('an image of 3.9 MB', (trial) => {
    const entries = Array.from({ length: 390 }, (_, i) => [`a${i}`, 'x'.repeat(10_000)])
    return imageOf(trial, { annotations: Object.fromEntries(entries) })
  }),
  takes('layers that are never pushed, being non-distributable', (trial) => {
    const layer = { ...descriptorOf(sampleBlob(32), foreignType), urls: ['https://example.org/l'] }
    return imageOf(trial, { layers: [layer] })
  }),
  takes('a subject that is not there', (trial) =>
    imageOf(trial, { subject: descriptorOf(sampleBlob(32), mediaTypes.ociManifest) }),
  ),
  {
    endpoint: 'end-7a',
    level: '1.1',
    title: 'answers OCI-Subject where the manifest has one',
    async run(trial) {
      const subject = descriptorOf(sampleBlob(32), mediaTypes.ociManifest)
      const answer = await pushManifest(trial, await imageOf(trial, { subject }))
      if (!answer.headers.has('oci-subject')) throw new Unsupported('there are no referrers')
      expectHeader(answer, 'oci-subject', subject.digest)
      const other = await pushManifest(trial, await imageOf(trial))
      if (other.headers.has('oci-subject')) throw new Error('also without a subject')
    },
  },
  {
    endpoint: 'end-7a',
    level: '1.1',
    title: 'takes an image by its sha512 digest, which is then its name',
    async run(trial) {
      const image = await imageOf(trial, {}, 'sha512')
      const answer = await pushManifest(trial, image)
      expectHeaderIfAny(answer, 'docker-content-digest', image.digest)
      await expectServed(trial, image, image.digest)
    },
  },
  {
    endpoint: 'end-7a',
    level: '1.1',
    title: 'refuses a manifest that does not have the digest',
    async run(trial) {
      const image = await imageOf(trial)
      for (const digest of [sampleBlob(32).digest, 'sha256:baddigeststring']) {
        expectStatus(await putManifest(trial, image, digest), 400)
        const path = `/v2/${trial.name}/manifests/${digest}`
        expectStatus(await trial.send('GET', path), 400, 404)
      }
    },
  },
  {
    endpoint: 'end-7a',
    level: '1.1',
    title: 'refuses what is no manifest',
    async run(trial) {
      const { mediaType } = await pushImage(trial, 'other')
      const invalid = blobOf(Buffer.from('{"schemaVersion":2'))
      expectStatus(await putManifest(trial, { mediaType, ...invalid }, 'invalid'), 400)
      expectStatus(await trial.send('GET', `/v2/${trial.name}/manifests/invalid`), 404)
    },
  },
  {
    endpoint: 'end-7a',
    level: '1.1',
    title: 'takes an image whose layer is missing, or refuses it as such',
    async run(trial) {
      const image = await imageOf(trial, { layers: [descriptorOf(sampleBlob(32))] })
      const answer = await putManifest(trial, image, 'missing')
      expectStatus(answer, 201, 400, 404)
      if (answer.status === 201) return
      const said = /"code":\s*"([A-Z_]+)"/.exec(answer.body.toString())?.[1]
      expectEqual(said, 'MANIFEST_BLOB_UNKNOWN', 'the code')
    },
  },
  {
    endpoint: 'end-7a',
    level: '1.1',
    title: 'takes 9 MB of manifest, or answers 413',
    async run(trial) {
      const image = await imageOf(trial, { annotations: { a: 'x'.repeat(9_000_000) } })
      const answer = await putManifest(trial, image, 'huge')
      if (answer.status === 400) throw new Unsupported('it is refused as something else')
      expectStatus(answer, 201, 413)
    },
  },
  {
    endpoint: 'end-7a',
    level: '1.1',
    title: 'moves a tag; what it pointed to stays',
    async run(trial) {
      const first = await pushImage(trial, 'moved')
      const second = await pushImage(trial, 'moved')
      await expectServed(trial, second, 'moved')
      await expectServed(trial, first, first.digest)
    },
  },
  {
    endpoint: 'end-7a',
    level: '1.1',
    title: 'takes the same manifest again, and under more tags',
    async run(trial) {
      const image = await pushImage(trial, 'first')
      for (const tag of ['first', 'second', 'UPPER_0.9-x', 't'.repeat(128)]) {
        await pushManifest(trial, image, tag)
        await expectServed(trial, image, tag)
      }
    },
  },
  {
    endpoint: 'end-7a',
    level: '1.1',
    title: 'refuses what is no tag',
    async run(trial) {
      const image = await imageOf(trial)
      for (const tag of ['.tag', '-tag', 't'.repeat(129), 't+1']) {
        expectStatus(await putManifest(trial, image, tag), 400, 404)
      }
    },
  },
  {
    endpoint: 'end-7b',
    level: 'main',
    title: 'sets ten tags at once, and says so in OCI-Tag',
    async run(trial) {
      const image = await imageOf(trial)
      const tags = Array.from({ length: 10 }, (_, i) => `many-${i}`)
      const query = tags.map((tag) => `tag=${tag}`).join('&')
      const answer = await pushManifest(trial, image, `${image.digest}?${query}`)
      const set = answer.headers.get('oci-tag')?.split(/\s*,\s*/)
      if (!set) throw new Unsupported('tags in the query are ignored')
      expectEqual(set.toSorted(), tags, 'OCI-Tag')
      for (const tag of tags) await expectServed(trial, image, tag)
    },
  },
  {
    endpoint: 'end-7b',
    level: 'main',
    title: 'tags a manifest with a sha512 digest',
    async run(trial) {
      const image = await imageOf(trial, {}, 'sha512')
      const answer = await pushManifest(trial, image, `${image.digest}?tag=long`)
      if (!answer.headers.has('oci-tag')) throw new Unsupported('tags in the query are ignored')
      await expectServed(trial, image, 'long')
      const head = await trial.send('HEAD', `/v2/${trial.name}/manifests/long`)
      expectHeader(head, 'docker-content-digest', image.digest)
    },
  },
  {
    endpoint: 'end-7b',
    level: 'main',
    title: 'takes a thousand tags, or answers 414 and sets none',
    async run(trial) {
      const image = await imageOf(trial)
      const query = Array.from({ length: 1000 }, (_, i) => `tag=t${i}`).join('&')
      const answer = await putManifest(trial, image, `${image.digest}?${query}`)
      expectStatus(answer, 201, 414)
      if (answer.status === 201 && !answer.headers.has('oci-tag')) {
        throw new Unsupported('tags in the query are ignored')
      }
      const first = await trial.send('GET', `/v2/${trial.name}/manifests/t0`)
      expectStatus(first, answer.status === 201 ? 200 : 404)
    },
  },
]
