import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { request as httpsRequest } from 'node:https'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { UnsecuredJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseChallenges } from '../../core/auth-challenge.ts'
import { digestOf } from '../../core/digest.ts'
import { createLog } from '../../core/log.ts'
import {
  basic,
  passwords,
  robotToken,
  startAccessServer,
  teamRules,
  type AccessServer,
} from '../../test/fixtures/access-server.ts'
import { createAuthority } from '../../test/fixtures/certificates.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { openTls } from '../tls.ts'

type Headers = Readonly<Record<string, string>>

const alice = basic('alice', passwords.alice)
const bob = basic('bob', passwords.bob)
const robot = { authorization: `Bearer ${robotToken}` }
const owned = new AsyncDisposableStack()
let server: AccessServer

beforeAll(async () => {
  server = owned.use(await startAccessServer())
})
afterAll(() => owned.disposeAsync())

async function send(path: string, headers: Headers = {}, init: RequestInit = {}) {
  const response = await fetch(server.url + path, { ...init, headers })
  const body = await response.text()
  const json: unknown = body === '' ? {} : JSON.parse(body)
  const challenge = response.headers.get('www-authenticate')
  return {
    status: response.status,
    headers: response.headers,
    json,
    code: Object(Object(json).errors?.[0]).code,
    challenge: challenge === null ? undefined : parseChallenges(challenge)[0],
  }
}

/** A token for those scopes, as `Authorization`. */
async function tokenFor(scopes: readonly string[], headers: Headers = {}): Promise<Headers> {
  const query = new URLSearchParams(scopes.map((scope) => ['scope', scope]))
  const { json } = await send(`/v2/token?service=dvcr&${query.toString()}`, headers)
  return { authorization: `Bearer ${Object(json).token}` }
}

/** What a token says that it is for. */
function accessIn({ authorization = '' }: Headers): unknown {
  const [, payload = ''] = authorization.split('.')
  return Object(JSON.parse(Buffer.from(payload, 'base64url').toString())).access
}

async function pushBlob(name: string, bytes: Buffer, headers: Headers): Promise<string> {
  const digest = digestOf(bytes)
  const { status } = await send(
    `/v2/${name}/blobs/uploads/?digest=${digest}`,
    { ...headers, 'content-type': 'application/octet-stream' },
    { method: 'POST', body: bytes },
  )
  expect(status).toBe(201)
  return digest
}

async function pushImage(name: string, tag: string, headers: Headers): Promise<void> {
  const config = Buffer.from('{}')
  const digest = await pushBlob(name, config, headers)
  const type = 'application/vnd.oci.image.manifest.v1+json'
  const descriptor = { mediaType: 'application/vnd.oci.empty.v1+json', digest, size: 2 }
  const manifest = { schemaVersion: 2, mediaType: type, config: descriptor, layers: [descriptor] }
  const { status } = await send(
    `/v2/${name}/manifests/${tag}`,
    { ...headers, 'content-type': type },
    { method: 'PUT', body: JSON.stringify({ ...manifest, annotations: { tag } }) },
  )
  expect(status).toBe(201)
}

describe('a request without credentials', () => {
  it('learns from /v2/ where tokens are', async () => {
    for (const path of ['/v2/', '/v2']) {
      const { status, code, challenge } = await send(path)
      expect([status, code]).toEqual([401, 'UNAUTHORIZED'])
      const realm = `${server.url}/v2/token`
      expect(challenge).toEqual({ scheme: 'bearer', parameters: { realm, service: 'dvcr' } })
    }
    expect((await send('/v2/', await tokenFor([]))).status).toBe(200)
  })

  it('is told what a token must be for', async () => {
    const wanted = async (method: string, path: string) => {
      const { status, challenge } = await send(path, {}, { method })
      expect([path, status]).toEqual([path, 401])
      return challenge?.parameters['scope']
    }
    const digest = digestOf(Buffer.from('x'))
    expect(await wanted('GET', '/v2/team-a/x/tags/list')).toBe('repository:team-a/x:pull')
    expect(await wanted('HEAD', `/v2/team-a/x/blobs/${digest}`)).toBe('repository:team-a/x:pull')
    const push = 'repository:team-a/x:pull,push'
    expect(await wanted('POST', '/v2/team-a/x/blobs/uploads/')).toBe(push)
    expect(await wanted('PATCH', '/v2/team-a/x/blobs/uploads/1')).toBe(push)
    expect(await wanted('GET', '/v2/team-a/x/blobs/uploads/1')).toBe(push)
    expect(await wanted('DELETE', '/v2/team-a/x/blobs/uploads/1')).toBe(push)
    expect(await wanted('PUT', '/v2/team-a/x/manifests/1')).toBe(push)
    expect(await wanted('DELETE', '/v2/team-a/x/manifests/1')).toBe('repository:team-a/x:delete')
  })

  it('pulls what anybody may, and nothing else', async () => {
    await pushImage('public/open', '1', robot)
    await pushImage('team-a/closed', '1', robot)
    for (const headers of [{}, await tokenFor(['repository:public/open:pull,push'])]) {
      expect((await send('/v2/public/open/manifests/1', headers)).status).toBe(200)
      const push = await send('/v2/public/open/blobs/uploads/', headers, { method: 'POST' })
      expect([push.status, push.code]).toEqual([401, 'UNAUTHORIZED'])
    }
    // Neither says whether there is one.
    const hidden = await send('/v2/team-a/closed/manifests/1')
    const absent = await send('/v2/team-a/absent/manifests/1')
    expect([hidden.status, absent.status]).toEqual([401, 401])
  })

  it('reaches the state of the server, but not its metrics', async () => {
    expect((await send('/healthz')).status).toBe(200)
    expect((await send('/readyz')).status).toBe(200)
    const metrics = await send('/metrics')
    expect([metrics.status, metrics.challenge?.scheme]).toEqual([401, 'basic'])
    expect((await send('/metrics', alice)).status).toBe(403)
  })
})

describe('credentials', () => {
  it('are good at once, by Basic or Bearer', async () => {
    for (const headers of [alice, basic('any', robotToken), robot]) {
      expect((await send('/v2/', headers)).status).toBe(200)
    }
  })

  it('that are wrong are refused, also where none would do', async () => {
    const wrong = [
      basic('alice', passwords.bob),
      basic('carol', 'x'),
      { authorization: 'Bearer nothing-that-is-known' },
      { authorization: 'Digest username="alice"' },
      { authorization: `Bearer ${new UnsecuredJWT({ iss: 'dvcr', sub: 'alice' }).encode()}` },
    ]
    for (const headers of wrong) {
      const { status, code, challenge } = await send('/v2/public/open/manifests/1', headers)
      expect([headers, status, code]).toEqual([headers, 401, 'UNAUTHORIZED'])
      expect(challenge?.parameters['scope']).toBe('repository:public/open:pull')
      const token = await send('/v2/token', headers)
      expect([token.status, token.challenge?.scheme]).toEqual([401, 'basic'])
    }
  })

  it('of a caller without the right are denied', async () => {
    const refused = [
      await send('/v2/team-a/x/blobs/uploads/', bob, { method: 'POST' }),
      await send('/v2/team-a/x/manifests/1', bob, { method: 'DELETE' }),
      await send('/v2/team-b/x/tags/list', bob),
      await send('/v2/public/x/blobs/uploads/', alice, { method: 'POST' }),
    ]
    expect(refused.map(({ status, code }) => [status, code])).toEqual(
      refused.map(() => [403, 'DENIED']),
    )
    expect(refused.map(({ challenge }) => challenge)).toEqual(refused.map(() => undefined))
  })
})

describe('the token service', () => {
  it('gives what was asked for and is allowed', async () => {
    const scope = (name: string, ...actions: string[]) => ({ type: 'repository', name, actions })
    const asked = ['repository:team-a/x:pull,push,delete,admin', 'repository:team-b/x:pull']
    expect(accessIn(await tokenFor(asked, alice))).toEqual([
      scope('team-a/x', 'pull', 'push', 'delete'),
    ])
    expect(accessIn(await tokenFor(asked, bob))).toEqual([scope('team-a/x', 'pull')])
    expect(accessIn(await tokenFor(asked))).toEqual([])
    expect(accessIn(await tokenFor(['repository:team-a/x:*'], bob))).toEqual([
      scope('team-a/x', 'pull'),
    ])
    // Some clients write several into one parameter, or the same one twice.
    const joined = ['repository:team-a/x:pull repository:public/y:pull', 'repository:team-a/x:push']
    expect(accessIn(await tokenFor(joined, alice))).toEqual([
      scope('team-a/x', 'pull', 'push'),
      scope('public/y', 'pull'),
    ])
    expect(accessIn(await tokenFor(['registry:catalog:*', 'plugin:x:*', 'nonsense'], bob))).toEqual(
      [{ type: 'registry', name: 'catalog', actions: ['*'] }],
    )
  })

  it('answers the form of OAuth2 too', async () => {
    const form = (fields: Record<string, string>) =>
      send(
        '/v2/token',
        { 'content-type': 'application/x-www-form-urlencoded' },
        { method: 'POST', body: new URLSearchParams(fields).toString() },
      )
    const asked = { service: 'dvcr', client_id: 'test', scope: 'repository:team-a/x:push' }
    const byPassword = { ...asked, grant_type: 'password', username: 'alice' }
    const { status, json, headers } = await form({ ...byPassword, password: passwords.alice })
    expect(status).toBe(200)
    expect(headers.get('cache-control')).toBe('no-store')
    expect(json).toEqual({
      token: expect.any(String),
      access_token: Object(json).token,
      expires_in: 300,
      issued_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
    })
    const refresh = { ...asked, grant_type: 'refresh_token', refresh_token: robotToken }
    expect((await form(refresh)).status).toBe(200)
    expect((await form({ ...byPassword, password: 'wrong' })).status).toBe(401)
    expect((await form({ ...asked, grant_type: 'code' })).status).toBe(400)
    expect((await form({ ...byPassword, password: 'x'.repeat(70_000) })).status).toBe(413)
  })

  it('gives no token for one of its tokens', async () => {
    const token = await tokenFor(['repository:team-a/x:pull'], alice)
    expect((await send('/v2/token?scope=repository:team-a/x:pull', token)).status).toBe(401)
    const secret = token['authorization']?.slice('Bearer '.length) ?? ''
    expect((await send('/v2/', basic('alice', secret))).status).toBe(401)
  })

  it('limits what a token is good for', async () => {
    const pull = await tokenFor(['repository:team-a/x:pull'], alice)
    const refused = await send('/v2/team-a/x/blobs/uploads/', pull, { method: 'POST' })
    expect([refused.status, refused.challenge?.parameters]).toEqual([
      401,
      expect.objectContaining({
        error: 'insufficient_scope',
        scope: 'repository:team-a/x:pull,push',
      }),
    ])
    expect((await send('/v2/team-a/y/tags/list', pull)).status).toBe(401)
    expect((await send('/v2/team-a/x/tags/list', pull)).status).toBe(404)
    // What no token would be good for is no matter of the token.
    expect((await send('/v2/team-b/y/tags/list', pull)).status).toBe(403)
    // Nor is any of them good for the server itself.
    expect((await send('/metrics', await tokenFor(['repository:a:*'], robot))).status).toBe(403)
    expect((await fetch(`${server.url}/metrics`, { headers: robot })).status).toBe(200)
  })
})

describe('content of other repositories', () => {
  const mount = (name: string, query: string, headers: Headers) =>
    send(`/v2/${name}/blobs/uploads/?${query}`, headers, { method: 'POST' })

  it('is mounted only where the caller may pull it', async () => {
    const secret = await pushBlob('team-b/secret', Buffer.from('of team b'), robot)
    const shared = await pushBlob('public/shared', Buffer.from('of all'), robot)
    expect((await mount('team-a/x', `mount=${secret}&from=team-b/secret`, alice)).status).toBe(202)
    expect((await mount('team-a/x', `mount=${secret}`, alice)).status).toBe(202)
    expect((await mount('team-a/x', `mount=${shared}&from=public/shared`, alice)).status).toBe(201)
    expect((await mount('team-a/y', `mount=${shared}`, alice)).status).toBe(201)
    expect((await send(`/v2/team-a/x/blobs/${secret}`, alice)).status).toBe(404)
  })

  it('is named only with a token for it', async () => {
    const digest = await pushBlob('team-a/source', Buffer.from('source'), alice)
    const narrow = await tokenFor(['repository:team-a/z:pull,push'], alice)
    const query = `mount=${digest}&from=team-a/source`
    const refused = await mount('team-a/z', query, narrow)
    expect(refused.status).toBe(401)
    const scope = refused.challenge?.parameters['scope'] ?? ''
    expect(scope).toBe('repository:team-a/z:pull,push repository:team-a/source:pull')
    expect((await mount('team-a/z', query, await tokenFor([scope], alice))).status).toBe(201)
  })
})

describe('the list of repositories', () => {
  const names = async (headers: Headers, query = '') => {
    const { json, headers: answered } = await send(`/v2/_catalog${query}`, headers)
    return { names: Object(json).repositories, link: answered.get('link') }
  }

  it('shows what the caller may pull, in pages', async () => {
    for (const name of ['public/a', 'team-a/a', 'team-b/a', 'team-b/b', 'team-b/c', 'zoo']) {
      await pushImage(name, '1', robot)
    }
    expect((await names(robot)).names).toEqual(
      expect.arrayContaining(['public/a', 'team-a/a', 'team-b/a', 'zoo']),
    )
    const seen = (await names(bob)).names
    expect(seen).toEqual(expect.arrayContaining(['public/a', 'team-a/a']))
    expect(seen.filter((name: string) => !/^(?:public|team-a)\//.test(name))).toEqual([])
    expect((await names({})).names).not.toContain('team-a/a')
    const paged: string[] = []
    for (let query = '?n=1', turn = 0; turn < 20; turn += 1) {
      const { names: page, link } = await names(bob, query)
      paged.push(...page)
      const next = /<[^>]*(\?[^>]+)>/.exec(link ?? '')?.[1]
      if (next === undefined) break
      query = next
    }
    expect(paged).toEqual(seen)
  })

  it('needs a token that is for it', async () => {
    const { status, challenge } = await send('/v2/_catalog', await tokenFor([], bob))
    expect([status, challenge?.parameters['scope']]).toEqual([401, 'registry:catalog:*'])
    const right = await tokenFor(['registry:catalog:*'], bob)
    expect((await names(right)).names).toContain('team-a/a')
  })
})

it('tricks with paths lead to nothing', async () => {
  await pushImage('team-b/hidden', '1', robot)
  const paths = [
    '/v2/public/%2e%2e/team-b/hidden/manifests/1',
    '/v2/public%2f..%2fteam-b/hidden/manifests/1',
    '/v2/public/..%2fteam-b/hidden/manifests/1',
    '/v2/public//team-b/hidden/manifests/1',
    '/v2//team-b/hidden/manifests/1',
    '/v2/public/x/manifests/1/../../../../team-b/hidden/manifests/1',
    '/v2/public/x%00/../team-b/hidden/manifests/1',
    '/v2/team-b/hidden/manifests/1?name=public/x',
    '/v2/TEAM-B/hidden/manifests/1',
    '/v2/team-b%2fhidden/manifests/1',
    '/v2/team-b/hidden/manifests/1/',
    '/v2/_catalog/../team-b/hidden/manifests/1',
    '/v2/token/../team-b/hidden/manifests/1',
    '/v2/team-b/hidden/manifests/1%3Fx=/public/x/manifests/1',
    '/V2/team-b/hidden/manifests/1',
    '//v2/team-b/hidden/manifests/1',
    '/healthz/../v2/team-b/hidden/manifests/1',
  ]
  for (const path of paths) {
    // Not fetch, which tidies paths up.
    const request = httpRequest({ port: server.port, host: '127.0.0.1', path, headers: alice })
    const answered: Promise<IncomingMessage[]> = once(request.end(), 'response')
    const [response] = await answered
    expect([path, response?.statusCode]).not.toEqual([path, 200])
    expect(response && (await text(response))).not.toContain('schemaVersion')
  }
})

it('a refused body is not read', async () => {
  const length = 50 * 1024 ** 3
  const headers = { ...bob, 'content-type': 'application/octet-stream', 'content-length': length }
  for (const extra of [{}, { expect: '100-continue' }]) {
    const request = httpRequest(`${server.url}/v2/team-a/x/blobs/uploads/?digest=sha256:0`, {
      method: 'POST',
      headers: { ...headers, ...extra },
    })
    let continued = false
    request.on('continue', () => (continued = true)).on('error', () => {})
    request.flushHeaders()
    const answered: Promise<IncomingMessage[]> = once(request, 'response')
    const [response] = await answered
    expect([response?.statusCode, continued]).toEqual([403, false])
    request.destroy()
  }
})

describe('limits', () => {
  it('stop who guesses, and not who was right before', async () => {
    await using guarded = await startAccessServer()
    const ping = async (headers: Headers) => {
      const { status, headers: answered } = await fetch(`${guarded.url}/v2/`, { headers })
      return { status, retryAfter: Number(answered.get('retry-after')) }
    }
    expect((await ping(alice)).status).toBe(200)
    const tries = Array.from({ length: 14 }, (_, index) => ping(basic('alice', `guess-${index}`)))
    const statuses = (await Promise.all(tries)).map(({ status }) => status)
    expect(statuses.filter((status) => status === 401)).toHaveLength(10)
    expect(statuses.filter((status) => status === 429)).toHaveLength(4)
    const next = await ping(basic('alice', 'guess'))
    expect(next.status).toBe(429)
    expect(next.retryAfter).toBeGreaterThan(0)
    expect(next.retryAfter).toBeLessThanOrEqual(6)
    expect((await ping(alice)).status).toBe(200)
    expect((await ping(bob)).status).toBe(200)
  })

  it('are per caller, and per address before that', async () => {
    const limits = { identity: { requestsPerSecond: 0.01, burst: 3 }, address: { burst: 12 } }
    await using limited = await startAccessServer({ rules: { ...teamRules, limits } })
    const statuses = async (headers: Headers, count: number) => {
      const answers: number[] = []
      for (let index = 0; index < count; index += 1) {
        answers.push((await fetch(`${limited.url}/v2/`, { headers })).status)
      }
      return answers
    }
    expect(await statuses(alice, 4)).toEqual([200, 200, 200, 429])
    expect(await statuses(bob, 1)).toEqual([200])
    expect(await fetch(`${limited.url}/healthz`).then(({ status }) => status)).toBe(200)
  })
})

describe('client certificates', () => {
  const rules = {
    providers: { ...teamRules.providers, certificates: { name: 'cn' } },
    rules: [{ who: ['certificate:worker'], repositories: ['team-a/**'], actions: ['pull'] }],
  }

  it('say who sends, by HTTP/1.1 and HTTP/2; other credentials win over them', async () => {
    await using folder = await createTempFolder()
    const authority = await createAuthority(folder.path)
    const ours = await authority.issue('server')
    const theirs = await authority.issue('worker')
    await using elsewhere = await createTempFolder()
    const stranger = await (await createAuthority(elsewhere.path)).issue('worker')
    const files = { cert: ours.cert, key: ours.key, clientCa: authority.ca }
    using tls = await openTls(files, { log: createLog('silent'), clientCertificates: 'offered' })
    await using secure = await startAccessServer({ tls, rules })
    const ca = await readFile(authority.ca)
    const pem = async ({ cert, key }: typeof ours) => ({
      cert: await readFile(cert),
      key: await readFile(key),
    })
    const get = async (certificate: object, headers: Headers = {}) => {
      const options = { ...certificate, ca, headers, agent: false }
      const request = httpsRequest(`${secure.url}/v2/team-a/x/tags/list`, options)
      const answered: Promise<IncomingMessage[]> = once(request.end(), 'response')
      const [response] = await answered
      response?.resume()
      return response?.statusCode
    }
    expect(await get(await pem(theirs))).toBe(404)
    expect(await get({})).toBe(401)
    expect(await get(await pem(theirs), alice)).toBe(403)
    expect(await get(await pem(await authority.issue('other')))).toBe(403)
    expect(await get(await pem(stranger))).toBe(401)
    const session = connectHttp2(secure.url, { ca, ...(await pem(theirs)) })
    const stream = session.request({ ':path': '/v2/team-a/x/tags/list' })
    const [answer] = await once(stream, 'response')
    expect(answer[':status']).toBe(404)
    session.destroy()
  })
})

describe('the log', () => {
  it('has a line for every change and refusal, and no secret', async () => {
    await using audited = await startAccessServer()
    const before = server
    server = audited
    try {
      await pushImage('team-a/x', '1', alice)
      const digest = await pushBlob('team-a/x', Buffer.from('{}'), alice)
      await send(`/v2/team-a/y/blobs/uploads/?mount=${digest}&from=team-a/x`, alice, {
        method: 'POST',
      })
      await pushImage('team-a/x', '1', robot)
      await send('/v2/team-a/x/manifests/1', alice, { method: 'DELETE' })
      await send(`/v2/team-a/x/blobs/${digest}`, alice, { method: 'DELETE' })
      await send('/v2/team-a/x/manifests/1', bob, { method: 'DELETE' })
      await send('/v2/', basic('alice', 'wrong-secret-3'))
      const token = await tokenFor(['repository:team-a/x:push'], alice)
      await send('/v2/team-b/x/blobs/uploads/', token, { method: 'POST' })
      const form = { grant_type: 'password', username: 'bob', password: passwords.bob }
      const type = { 'content-type': 'application/x-www-form-urlencoded' }
      await send('/v2/token', type, {
        method: 'POST',
        body: new URLSearchParams(form).toString(),
      })
      const lines = audited
        .logged()
        .split('\n')
        .filter((line) => line.includes('"msg":"audit"'))
        .map((line) => Object(JSON.parse(line)))
      expect(lines.map(({ audit, identity, outcome }) => [audit, identity, outcome])).toEqual([
        ['blob.push', 'user:alice', 'done'],
        ['manifest.push', 'user:alice', 'done'],
        ['blob.push', 'user:alice', 'done'],
        ['blob.mount', 'user:alice', 'done'],
        ['blob.push', 'robot:ci', 'done'],
        ['manifest.push', 'robot:ci', 'done'],
        ['tag.delete', 'user:alice', 'done'],
        ['blob.delete', 'user:alice', 'done'],
        ['access.refused', 'user:bob', 'refused'],
        ['access.refused', 'unknown', 'refused'],
        ['access.refused', 'user:alice', 'refused'],
      ])
      expect(lines[3]).toMatchObject({ repository: 'team-a/y', from: 'team-a/x', digest })
      expect(lines[1]).toMatchObject({ tags: [{ tag: '1' }], address: '127.0.0.1' })
      expect(lines[1].tags[0].from).toBeUndefined()
      expect(lines[5].tags[0].from).toBe(lines[1].digest)
      expect(lines[8]).toMatchObject({ code: 'DENIED', method: 'DELETE', status: 403 })
      const secrets = [...Object.values(passwords), robotToken, 'wrong-secret-3']
      const encoded = [alice, bob, token].map(({ authorization = '' }) => authorization.slice(7))
      for (const secret of [...secrets, ...encoded]) expect(audited.logged()).not.toContain(secret)
    } finally {
      server = before
    }
  })
})
