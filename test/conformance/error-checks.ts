import {
  expectEqual,
  expectHeaderIfAny,
  expectStatus,
  jsonOf,
  Unsupported,
  type Check,
  type Trial,
} from './check.ts'
import type { Answer } from './client.ts'
import { imageOf, pushBlob, pushImage, putManifest, sampleBlob, startUpload } from './content.ts'

/** Fails unless the body has the spec's form with that code. */
function expectCode(answer: Answer, ...codes: string[]): void {
  if (answer.headers.get('content-type')?.includes('json') !== true) {
    throw new Unsupported('the body is not JSON')
  }
  const [first]: unknown[] = Object(jsonOf(answer)).errors ?? []
  const { code, message } = Object(first)
  if (message !== undefined) expectEqual(typeof message, 'string', 'type of message')
  if (!codes.includes(code)) throw new Error(`the code is ${code}, expected ${codes.join(' or ')}`)
}

function says(
  title: string,
  codes: readonly string[],
  ask: (trial: Trial) => Promise<Answer>,
): Check {
  return {
    endpoint: 'errors',
    level: '1.1',
    title: `${codes.join(' or ')}: ${title}`,
    run: async (trial) => expectCode(await ask(trial), ...codes),
  }
}

const goodNames = ['a', 'a/b/c', 'a.b_c-d', 'a__b', 'a--b---c', '0/1', 'a'.repeat(60)]
const badNames = ['Upper', 'a//b', '-a', 'a-', 'a_', '_a', 'a___b', 'a..b', 'a/.b', 'ä']

/** @see OCI distribution-spec §error-codes, §pulling-manifests on names */
export const errorChecks: readonly Check[] = [
  {
    endpoint: 'errors',
    level: '1.1',
    title: 'takes every name that is one',
    async run({ name, send }) {
      for (const good of goodNames) {
        await startUpload({ name: `${name}/${good}`, send })
      }
    },
  },
  {
    endpoint: 'errors',
    level: '1.1',
    title: 'refuses every name that is none',
    async run({ name, send }) {
      for (const bad of badNames) {
        const answer = await send('POST', `/v2/${name}/${encodeURI(bad)}/blobs/uploads/`)
        expectStatus(answer, 400, 404)
      }
    },
  },
  says('a blob that is not there', ['BLOB_UNKNOWN'], async (trial) => {
    await pushBlob(trial, sampleBlob(32))
    return trial.send('GET', `/v2/${trial.name}/blobs/${sampleBlob(32).digest}`)
  }),
  says('an upload that is not there', ['BLOB_UPLOAD_UNKNOWN'], async (trial) => {
    const blob = sampleBlob(10)
    const location = await startUpload(trial)
    await trial.send(
      'PUT',
      `${location}${location.includes('?') ? '&' : '?'}digest=${blob.digest}`,
      {
        body: blob.bytes,
      },
    )
    return trial.send('GET', location)
  }),
  says('bytes that do not have the digest', ['DIGEST_INVALID'], async (trial) => {
    const location = await startUpload(trial)
    const query = `${location.includes('?') ? '&' : '?'}digest=${sampleBlob(32).digest}`
    return trial.send('PUT', `${location}${query}`, { body: sampleBlob(10).bytes })
  }),
  says('a manifest that is not there', ['MANIFEST_UNKNOWN'], async (trial) => {
    await pushImage(trial, 'other')
    return trial.send('GET', `/v2/${trial.name}/manifests/absent`)
  }),
  says('what is no manifest', ['MANIFEST_INVALID'], async (trial) => {
    const image = await imageOf(trial)
    return putManifest(trial, { ...image, bytes: Buffer.from('[') }, 'invalid')
  }),
  says('a manifest of another digest', ['DIGEST_INVALID', 'MANIFEST_INVALID'], async (trial) =>
    putManifest(trial, await imageOf(trial), sampleBlob(32).digest),
  ),
  says('tags of a repository that nobody has used', ['NAME_UNKNOWN'], async ({ send, name }) => {
    const answer = await send('GET', `/v2/${name}/tags/list`)
    if (answer.status === 200) throw new Unsupported('it is an empty list')
    return answer
  }),
  says('what is no name', ['NAME_INVALID'], ({ send, name }) =>
    send('GET', `/v2/${name}/-bad/tags/list`),
  ),
  {
    endpoint: 'extensions',
    level: '1.1',
    title: 'lists repositories that have a manifest, in pages',
    async run(trial) {
      const { name, send } = trial
      for (const part of ['a', 'b', 'c']) await pushImage({ send, name: `${name}/${part}` }, 'x')
      const list = async (query: string): Promise<unknown> => {
        const answer = await send('GET', `/v2/_catalog?${query}`)
        if (answer.status !== 200) throw new Unsupported('there is no catalog')
        return Object(jsonOf(answer)).repositories
      }
      expectEqual(await list(`n=2&last=${name}`), [`${name}/a`, `${name}/b`], 'repositories')
      expectEqual(await list(`n=1&last=${name}/b`), [`${name}/c`], 'repositories')
    },
  },
  {
    endpoint: 'extensions',
    level: '1.1',
    title: 'lists its extensions',
    async run({ send }) {
      const answer = await send('GET', '/v2/_oci/ext/discover')
      if (answer.status === 404) throw new Unsupported('it does not say which it has')
      expectStatus(answer, 200)
      if (!Array.isArray(Object(jsonOf(answer)).extensions))
        throw new Error('no list of extensions')
    },
  },
  {
    endpoint: 'extensions',
    level: 'main',
    title: 'a pull with ns is answered as without, or with OCI-Namespace',
    async run(trial) {
      const { digest } = await pushImage(trial, 'mirrored')
      const path = `/v2/${trial.name}/manifests/mirrored?ns=registry.example.org`
      const answer = await trial.send('GET', path)
      expectStatus(answer, 200, 404)
      expectHeaderIfAny(answer, 'oci-namespace', 'registry.example.org')
      if (!answer.headers.has('oci-namespace')) {
        expectStatus(answer, 200)
        expectHeaderIfAny(answer, 'docker-content-digest', digest)
      }
    },
  },
]
