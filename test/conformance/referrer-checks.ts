import { mediaTypes } from '../../core/manifest.ts'
import {
  expectEqual,
  expectHeader,
  expectStatus,
  jsonOf,
  Unsupported,
  type Check,
  type Trial,
} from './check.ts'
import { nextOf, type Answer } from './client.ts'
import {
  blobOf,
  descriptorOf,
  emptyType,
  imageOf,
  manifestOf,
  pushBlob,
  pushImage,
  pushManifest,
  sampleBlob,
  type SampleDescriptor,
  type SampleManifest,
} from './content.ts'

/** All referrers in the order of their digests, over all pages. */
async function referrersOf(
  { send, name }: Trial,
  subject: string,
  artifactType?: string,
): Promise<{ readonly answer: Answer; readonly found: unknown[] }> {
  const filter =
    artifactType === undefined ? '' : `?artifactType=${encodeURIComponent(artifactType)}`
  const found: unknown[] = []
  let first: Answer | undefined
  let path: string | undefined = `/v2/${name}/referrers/${subject}${filter}`
  while (path !== undefined) {
    const answer: Answer = await send('GET', path)
    if (answer.status === 404) throw new Unsupported('there is no such endpoint')
    expectStatus(answer, 200)
    expectHeader(answer, 'content-type', mediaTypes.ociIndex)
    const index = Object(jsonOf(answer))
    expectEqual([index.schemaVersion, index.mediaType], [2, mediaTypes.ociIndex], 'the index')
    if (!Array.isArray(index.manifests)) throw new Error('manifests is no list')
    found.push(...index.manifests)
    first ??= answer
    path = nextOf(answer)
  }
  if (!first) throw new Error('no answer')
  return { answer: first, found: found.toSorted(byDigest) }
}

const digestOfEntry = (entry: unknown): string => String(Object(entry).digest)
const byDigest = (a: unknown, b: unknown): number => (digestOfEntry(a) < digestOfEntry(b) ? -1 : 1)

async function artifactFor(
  trial: Trial,
  subject: SampleDescriptor,
  fields: Readonly<Record<string, unknown>>,
): Promise<SampleManifest> {
  const artifact = await imageOf(trial, { subject, ...fields })
  await pushManifest(trial, artifact)
  return artifact
}

const absentSubject = () => descriptorOf(sampleBlob(32), mediaTypes.ociManifest)
const typeA = 'application/vnd.example.a+json'
const typeB = 'application/vnd.example.b+json'

/** What is listed of one manifest that has a subject. */
function lists(
  title: string,
  push: (
    trial: Trial,
    subject: SampleDescriptor,
  ) => Promise<{
    readonly manifest: SampleManifest
    readonly entry: Readonly<Record<string, unknown>>
  }>,
  subjectOf: (trial: Trial) => Promise<SampleDescriptor> = async () => absentSubject(),
): Check {
  return {
    endpoint: 'end-12a',
    level: '1.1',
    title: `lists ${title}`,
    async run(trial) {
      const subject = await subjectOf(trial)
      const { manifest, entry } = await push(trial, subject)
      const { found } = await referrersOf(trial, subject.digest)
      const expected = { ...descriptorOf(manifest, manifest.mediaType), ...entry }
      expectEqual(found.map(sorted), [sorted(expected)], 'referrers')
    },
  }
}

/** The order of fields means nothing. */
const sorted = (entry: unknown): unknown =>
  Object.entries(Object(entry)).toSorted(([a], [b]) => (a < b ? -1 : 1))

const withArtifactType = async (trial: Trial, subject: SampleDescriptor) => ({
  manifest: await artifactFor(trial, subject, { artifactType: typeA }),
  entry: { artifactType: typeA },
})

/** @see OCI distribution-spec §listing-referrers */
export const referrerChecks: readonly Check[] = [
  {
    endpoint: 'end-12a',
    level: '1.1',
    title: 'answers an empty index for a digest that is not there',
    async run(trial) {
      await pushImage(trial, 'other')
      expectEqual((await referrersOf(trial, sampleBlob(32).digest)).found, [], 'referrers')
    },
  },
  {
    endpoint: 'end-12a',
    level: '1.1',
    title: 'answers an empty index in a repository that nobody has used',
    async run(trial) {
      expectEqual((await referrersOf(trial, sampleBlob(32).digest)).found, [], 'referrers')
    },
  },
  {
    endpoint: 'end-12a',
    level: '1.1',
    title: 'refuses what is no digest',
    async run(trial) {
      await referrersOf(trial, sampleBlob(32).digest)
      const path = `/v2/${trial.name}/referrers/sha256:baddigeststring`
      expectStatus(await trial.send('GET', path), 400)
    },
  },
  lists('an artifact with its artifactType', withArtifactType),
  lists('an image with the type of its config', async (trial, subject) => ({
    manifest: await artifactFor(trial, subject, {}),
    entry: { artifactType: mediaTypes.ociConfig },
  })),
  lists('an artifact with the empty config', async (trial, subject) => {
    const empty = blobOf(Buffer.from('{}'))
    await pushBlob(trial, empty)
    const config = descriptorOf(empty, emptyType)
    const manifest = await artifactFor(trial, subject, { artifactType: typeB, config })
    return { manifest, entry: { artifactType: typeB } }
  }),
  lists('the annotations of an artifact', async (trial, subject) => {
    const annotations = { 'org.example.key': 'value', 'org.example.other': '' }
    const manifest = await artifactFor(trial, subject, { artifactType: typeA, annotations })
    return { manifest, entry: { artifactType: typeA, annotations } }
  }),
  lists('an index with its artifactType', async (trial, subject) => {
    const fields = { manifests: [], artifactType: typeA, subject }
    const manifest = manifestOf(mediaTypes.ociIndex, fields)
    await pushManifest(trial, manifest)
    return { manifest, entry: { artifactType: typeA } }
  }),
  lists('an index without artifactType as such', async (trial, subject) => {
    const manifest = manifestOf(mediaTypes.ociIndex, { manifests: [], subject })
    await pushManifest(trial, manifest)
    return { manifest, entry: {} }
  }),
  lists('an artifact of a subject that is there', withArtifactType, async (trial) => {
    const image = await pushImage(trial, 'subject')
    return descriptorOf(image, image.mediaType)
  }),
  lists('an artifact of a subject with a sha512 digest', withArtifactType, async () =>
    descriptorOf(sampleBlob(1, 'sha512'), mediaTypes.ociManifest),
  ),
  lists('an artifact that was pushed by tag', async (trial, subject) => {
    const manifest = await pushImage(trial, 'tagged', { artifactType: typeA, subject })
    return { manifest, entry: { artifactType: typeA } }
  }),
  lists('an artifact with a sha512 digest', async (trial, subject) => {
    const manifest = await imageOf(trial, { artifactType: typeA, subject }, 'sha512')
    await pushManifest(trial, manifest)
    return { manifest, entry: { artifactType: typeA } }
  }),
  lists('an artifact once that a fallback tag lists too', async (trial, subject) => {
    const pushed = await withArtifactType(trial, subject)
    const { manifest } = pushed
    const listed = { ...descriptorOf(manifest, manifest.mediaType), artifactType: typeA }
    const fallback = manifestOf(mediaTypes.ociIndex, { manifests: [listed] })
    await pushManifest(trial, fallback, subject.digest.replace(':', '-'))
    return pushed
  }),
  {
    endpoint: 'end-12a',
    level: '1.1',
    title: 'lists all of many, over pages or not, and only those of the subject',
    async run(trial) {
      const subject = absentSubject()
      await artifactFor(trial, absentSubject(), { artifactType: typeA })
      const pushed: string[] = []
      for (let i = 0; i < 15; i++) {
        pushed.push((await artifactFor(trial, subject, { artifactType: typeA })).digest)
      }
      const { found } = await referrersOf(trial, subject.digest)
      expectEqual(found.map(digestOfEntry), pushed.toSorted(), 'digests')
    },
  },
  {
    endpoint: 'end-12a',
    level: '1.1',
    title: 'does not list what was deleted',
    async run(trial) {
      const subject = absentSubject()
      const gone = await artifactFor(trial, subject, { artifactType: typeA })
      const stays = await artifactFor(trial, subject, { artifactType: typeA })
      const path = `/v2/${trial.name}/manifests/${gone.digest}`
      const deleted = await trial.send('DELETE', path)
      if ([400, 405].includes(deleted.status)) throw new Unsupported('there are no deletes')
      expectStatus(deleted, 202)
      const { found } = await referrersOf(trial, subject.digest)
      expectEqual(found.map(digestOfEntry), [stays.digest], 'digests')
    },
  },
  {
    endpoint: 'end-12b',
    level: '1.1',
    title: 'lists those of one type, and says so in OCI-Filters-Applied',
    async run(trial) {
      const subject = absentSubject()
      const a = await artifactFor(trial, subject, { artifactType: typeA })
      const image = await artifactFor(trial, subject, {})
      const unfiltered = await referrersOf(trial, subject.digest)
      if (unfiltered.answer.headers.has('oci-filters-applied')) throw new Error('without a filter')
      for (const [type, digests] of [
        [typeA, [a.digest]],
        [mediaTypes.ociConfig, [image.digest]],
        [typeB, []],
      ] as const) {
        const { answer, found } = await referrersOf(trial, subject.digest, type)
        // A registry may answer all of them, without the header.
        if (!answer.headers.has('oci-filters-applied')) throw new Unsupported('filters are ignored')
        expectHeader(answer, 'oci-filters-applied', 'artifactType')
        expectEqual(found.map(digestOfEntry), digests, `digests of type ${type}`)
      }
    },
  },
]
