import { readFile, writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import { json } from 'node:stream/consumers'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createAuthority } from '../../test/fixtures/certificates.ts'
import { listenOnLoopback } from '../../test/fixtures/ports.ts'
import { refusalIn } from '../../test/fixtures/refusal.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { createKubernetesProvider } from './kubernetes.ts'

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
/** Only the API server can tell a real one: here it is known by its `sub`. */
const jwt = (sub: string): string =>
  `${part({ alg: 'RS256' })}.${part({ iss: 'https://kubernetes.default.svc', sub })}.c2ln`
const bearer = (sub: string) => ({ kind: 'bearer', token: jwt(sub) }) as const

interface Review {
  readonly authorization: string | undefined
  readonly path: string | undefined
  readonly body: { readonly spec: { readonly token: string; readonly audiences: string[] } }
}

const owned = new AsyncDisposableStack()
const reviews: Review[] = []
let answer: (review: Review) => { readonly status: number; readonly body: unknown }
let server: Server
let options: { api: string; audience: string; ca: string; tokenFile: string }

/** What the API server says of a token whose user is `username`. */
const status = (username: string, audiences = ['dvcr']) => ({
  status: 201,
  body: { status: { authenticated: true, audiences, user: { username, groups: ['x'] } } },
})

beforeAll(async () => {
  const { path } = owned.use(await createTempFolder())
  const authority = await createAuthority(path)
  const files = await authority.issue('api-server')
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { authorization } = request.headers
    const review = { authorization, path: request.url, body: Object(await json(request)) }
    reviews.push(review)
    const { status, body } = answer(review)
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
  server = createServer(
    { key: await readFile(files.key), cert: await readFile(files.cert) },
    (request, response) => void serve(request, response),
  )
  owned.defer(() => {
    server.closeAllConnections()
    server.close()
  })
  const tokenFile = join(path, 'token')
  await writeFile(tokenFile, 'our-own-token\n')
  options = {
    api: `https://127.0.0.1:${await listenOnLoopback(server)}`,
    audience: 'dvcr',
    ca: await readFile(authority.ca, 'utf8'),
    tokenFile,
  }
})
afterAll(() => owned.disposeAsync())
beforeEach(() => {
  reviews.length = 0
  answer = () => status('system:serviceaccount:builds:worker')
})

describe('the Kubernetes provider', () => {
  it('asks the cluster with its own token, for our audience, and remembers the answer', async () => {
    await using provider = createKubernetesProvider(options)
    const worker = { kind: 'serviceaccount', name: 'builds/worker', groups: [] }
    const asked = await Promise.all([provider(bearer('a')), provider(bearer('a'))])
    expect(asked).toEqual([worker, worker])
    const basic = { kind: 'basic', user: 'any', password: jwt('a') } as const
    expect(await provider(basic)).toEqual(worker)
    expect(reviews).toEqual([
      {
        authorization: 'Bearer our-own-token',
        path: '/apis/authentication.k8s.io/v1/tokenreviews',
        body: {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenReview',
          spec: { token: jwt('a'), audiences: ['dvcr'] },
        },
      },
    ])
  })

  it('reads its own token each time: it is replaced while we run', async () => {
    await using provider = createKubernetesProvider(options)
    await provider(bearer('a'))
    await writeFile(options.tokenFile, 'our-next-token')
    await provider(bearer('b'))
    expect(reviews.map(({ authorization }) => authorization)).toEqual([
      'Bearer our-own-token',
      'Bearer our-next-token',
    ])
    await writeFile(options.tokenFile, 'our-own-token\n')
  })

  it('knows nobody whom the cluster does not, and remembers that too', async () => {
    await using provider = createKubernetesProvider(options)
    const answers = {
      refused: { status: 201, body: { status: { authenticated: false, error: 'no' } } },
      'for others': status('system:serviceaccount:builds:worker', ['api']),
      'of a cluster without audiences': status('system:serviceaccount:builds:worker', []),
      'of a person': status('alice'),
      'of a node': status('system:node:one'),
      'of a strange account': status('system:serviceaccount:a:b:c'),
    }
    for (const [sub, given] of Object.entries(answers)) {
      answer = () => given
      expect([sub, await provider(bearer(sub))]).toEqual([sub, undefined])
      answer = () => status('system:serviceaccount:builds:worker')
      expect([sub, await provider(bearer(sub))]).toEqual([sub, undefined])
    }
  })

  it('sends nothing to the cluster that is no JWT', async () => {
    await using provider = createKubernetesProvider(options)
    const basic = { kind: 'basic', user: 'alice', password: 'secret' } as const
    expect(await provider(basic)).toBeUndefined()
    expect(await provider({ kind: 'bearer', token: 'a.b.c' })).toBeUndefined()
    expect(await provider({ kind: 'none' })).toBeUndefined()
    expect(reviews).toEqual([])
  })

  it('says that the cluster does not answer, and asks again the next time', async () => {
    await using provider = createKubernetesProvider(options)
    answer = () => ({ status: 403, body: {} })
    expect(await refusalIn(provider(bearer('a')))).toBe('UNAVAILABLE')
    answer = () => ({ status: 200, body: 'what' })
    expect(await refusalIn(provider(bearer('a')))).toBe('UNAVAILABLE')
    answer = () => status('system:serviceaccount:builds:worker')
    expect((await provider(bearer('a')))?.name).toBe('builds/worker')
  })

  it('trusts only the certificate authority of the cluster', async () => {
    await using folder = await createTempFolder()
    const other = await createAuthority(folder.path, 'other')
    const ca = await readFile(other.ca, 'utf8')
    await using provider = createKubernetesProvider({ ...options, ca })
    expect(await refusalIn(provider(bearer('a')))).toBe('UNAVAILABLE')
    expect(reviews).toEqual([])
  })
})
