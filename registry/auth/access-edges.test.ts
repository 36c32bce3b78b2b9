import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { request as httpsRequest } from 'node:https'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { generateKeyPair, SignJWT } from 'jose'
import { createLog } from '../../core/log.ts'
import {
  basic,
  passwords,
  robotToken,
  startAccessServer,
  teamRules,
  type AccessServer,
} from '../../test/fixtures/access-server.ts'
import {
  createAccessClient,
  type AccessClient,
  type SentHeaders,
} from '../../test/fixtures/access-client.ts'
import { createAuthority } from '../../test/fixtures/certificates.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { openTls } from '../http/tls.ts'

const alice = basic('alice', passwords.alice)
const bob = basic('bob', passwords.bob)
const robot = { authorization: `Bearer ${robotToken}` }
const owned = new AsyncDisposableStack()
let server: AccessServer
let client: AccessClient

beforeAll(async () => {
  server = owned.use(await startAccessServer())
  client = createAccessClient(server.url)
})
afterAll(() => owned.disposeAsync())

it('tricks with paths lead to nothing', async () => {
  await client.pushImage('team-b/hidden', '1', robot)
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
    const ping = async (headers: SentHeaders) => {
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
    const statuses = async (headers: SentHeaders, count: number) => {
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
    const get = async (certificate: object, headers: SentHeaders = {}) => {
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
  it('has no token of an issuer, also where it cannot be judged', async () => {
    await using folder = await createTempFolder()
    const authority = await createAuthority(folder.path)
    const tokenFile = join(folder.path, 'token')
    await writeFile(tokenFile, 'token-of-the-pod')
    const { privateKey } = await generateKeyPair('ES256')
    const nowhere = 'https://127.0.0.1:1'
    const providers = {
      oidc: [{ issuer: 'https://issuer.example', audience: 'dvcr', jwksUrl: nowhere }],
      kubernetes: { api: nowhere, caFile: authority.ca, tokenFile },
    }
    await using audited = await startAccessServer({ rules: { providers, rules: [] } })
    const { send } = createAccessClient(audited.url)
    for (const iss of ['https://issuer.example', 'https://cluster.example']) {
      const token = await new SignJWT({ iss }).setProtectedHeader({ alg: 'ES256' }).sign(privateKey)
      expect((await send('/v2/', { authorization: `Bearer ${token}` })).status).toBe(503)
      const byPassword = basic('any', token)
      expect((await send('/v2/token', byPassword)).status).toBe(503)
      for (const secret of [token, byPassword.authorization.slice(6), 'token-of-the-pod']) {
        expect(audited.logged()).not.toContain(secret)
      }
    }
    expect(audited.logged()).toContain('a request failed')
  })

  it('has a line for every change and refusal, and no secret', async () => {
    await using audited = await startAccessServer()
    const client = createAccessClient(audited.url)
    await client.pushImage('team-a/x', '1', alice)
    const digest = await client.pushBlob('team-a/x', Buffer.from('{}'), alice)
    await client.send(`/v2/team-a/y/blobs/uploads/?mount=${digest}&from=team-a/x`, alice, {
      method: 'POST',
    })
    await client.pushImage('team-a/x', '1', robot)
    await client.send('/v2/team-a/x/manifests/1', alice, { method: 'DELETE' })
    await client.send(`/v2/team-a/x/blobs/${digest}`, alice, { method: 'DELETE' })
    await client.send('/v2/team-a/x/manifests/1', bob, { method: 'DELETE' })
    await client.send('/v2/', basic('alice', 'wrong-secret-3'))
    const token = await client.tokenFor(['repository:team-a/x:push'], alice)
    await client.send('/v2/team-b/x/blobs/uploads/', token, { method: 'POST' })
    const form = { grant_type: 'password', username: 'bob', password: passwords.bob }
    const type = { 'content-type': 'application/x-www-form-urlencoded' }
    await client.send('/v2/token', type, {
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
    const encoded = [alice, bob, token].map(({ authorization }) => authorization.slice(7))
    for (const secret of [...secrets, ...encoded]) expect(audited.logged()).not.toContain(secret)
  })
})
