import { expectEqual, expectStatus, jsonOf, Unsupported, type Check, type Trial } from './check.ts'
import { nextOf, type Answer } from './client.ts'
import { pushImage, pushManifest, imageOf } from './content.ts'

async function listTags(trial: Trial, query = ''): Promise<{ answer: Answer; tags: unknown }> {
  const answer = await trial.send('GET', `/v2/${trial.name}/tags/list${query}`)
  expectStatus(answer, 200)
  const list = Object(jsonOf(answer))
  expectEqual(list.name, trial.name, 'name')
  return { answer, tags: list.tags }
}

/** So many that they are in order only where somebody orders them. */
const letters = 'caldkbjeifhg'.split('')
const inOrder = letters.toSorted()

async function tagged(trial: Trial, tags: readonly string[]): Promise<void> {
  const image = await imageOf(trial)
  for (const tag of tags) await pushManifest(trial, image, tag)
}

function pages(
  title: string,
  tags: readonly string[],
  query: string,
  expected: readonly string[],
): Check {
  return {
    endpoint: 'end-8b',
    level: '1.1',
    title,
    async run(trial) {
      await tagged(trial, tags)
      expectEqual((await listTags(trial, query)).tags, expected, 'tags')
    },
  }
}

/** @see OCI distribution-spec §listing-tags */
export const tagChecks: readonly Check[] = [
  {
    endpoint: 'end-8a',
    level: '1.1',
    title: 'lists all tags in order',
    async run(trial) {
      await tagged(trial, letters)
      expectEqual((await listTags(trial)).tags, inOrder, 'tags')
    },
  },
  {
    endpoint: 'end-8a',
    level: '1.1',
    title: 'does not list what was pushed by digest',
    async run(trial) {
      await pushImage(trial, 'only')
      await pushManifest(trial, await imageOf(trial))
      expectEqual((await listTags(trial)).tags, ['only'], 'tags')
    },
  },
  {
    endpoint: 'end-8a',
    level: '1.1',
    title: 'answers an empty list or 404 in a repository that nobody has used',
    async run({ name, send }) {
      const answer = await send('GET', `/v2/${name}/tags/list`)
      expectStatus(answer, 200, 404)
      if (answer.status === 200) expectEqual(Object(jsonOf(answer)).tags ?? [], [], 'tags')
    },
  },
  {
    endpoint: 'end-8a',
    level: 'main',
    title: 'lists tags in the order of their bytes',
    async run(trial) {
      await tagged(trial, ['b', 'B', 'a', '1.10', '1.9', '_', 'A-', 'A'])
      const expected = ['1.10', '1.9', 'A', 'A-', 'B', '_', 'a', 'b']
      expectEqual((await listTags(trial)).tags, expected, 'tags')
    },
  },
  pages('n: the first so many', letters, '?n=2', ['a', 'b']),
  pages('n=0: none', letters, '?n=0', []),
  pages('n beyond the end: all', letters, '?n=100', inOrder),
  pages('last: those after it', letters, '?last=j', ['k', 'l']),
  pages('last that is no tag: those after where it would be', letters, '?last=jj', ['k', 'l']),
  pages('last beyond the end: none', letters, '?last=z', []),
  pages('n and last: the next so many', letters, '?n=2&last=a', ['b', 'c']),
  {
    endpoint: 'end-8b',
    level: '1.1',
    title: 'all tags come once by following Link, or by last where there is none',
    async run(trial) {
      await tagged(trial, letters)
      const found: unknown[] = []
      let query = '?n=5'
      for (;;) {
        const { answer, tags } = await listTags(trial, query)
        if (!Array.isArray(tags)) throw new Error('tags is no list')
        if (tags.length > 5) throw new Unsupported('n is ignored')
        found.push(...tags)
        const next = nextOf(answer)
        if (next !== undefined) query = new URL(next, 'http://registry').search
        else if (tags.length === 5) query = `?n=5&last=${tags[4]}`
        else break
      }
      expectEqual(found, inOrder, 'tags')
    },
  },
  {
    endpoint: 'end-8b',
    level: '1.1',
    title: 'no Link after the last tag, nor with n=0',
    async run(trial) {
      await tagged(trial, ['a', 'b'])
      for (const query of ['?n=0', '?n=3', '?n=2&last=b']) {
        expectEqual(nextOf((await listTags(trial, query)).answer), undefined, `Link of ${query}`)
      }
    },
  },
  {
    endpoint: 'end-8b',
    level: '1.1',
    title: 'fewer than n tags only at the end or with Link',
    async run(trial) {
      await tagged(trial, letters)
      const { answer, tags } = await listTags(trial, '?n=3')
      if (!Array.isArray(tags)) throw new Error('tags is no list')
      if (tags.length < 3 && nextOf(answer) === undefined) throw new Error(`only ${tags.length}`)
    },
  },
]
