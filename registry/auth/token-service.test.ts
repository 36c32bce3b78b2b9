import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  basic,
  passwords,
  robotToken,
  startAccessServer,
  type AccessServer,
} from '../../test/fixtures/access-server.ts'
import {
  createAccessClient,
  type AccessClient,
  type SentHeaders,
} from '../../test/fixtures/access-client.ts'

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

/** What a token says that it is for. */
function accessIn({ authorization }: { readonly authorization: string }): unknown {
  const [, payload = ''] = authorization.split('.')
  return Object(JSON.parse(Buffer.from(payload, 'base64url').toString())).access
}

describe('the token service', () => {
  it('gives what was asked for and is allowed', async () => {
    const scope = (name: string, ...actions: string[]) => ({ type: 'repository', name, actions })
    const asked = ['repository:team-a/x:pull,push,delete,admin', 'repository:team-b/x:pull']
    expect(accessIn(await client.tokenFor(asked, alice))).toEqual([
      scope('team-a/x', 'pull', 'push', 'delete'),
    ])
    expect(accessIn(await client.tokenFor(asked, bob))).toEqual([scope('team-a/x', 'pull')])
    expect(accessIn(await client.tokenFor(asked))).toEqual([])
    expect(accessIn(await client.tokenFor(['repository:team-a/x:*'], bob))).toEqual([
      scope('team-a/x', 'pull'),
    ])
    // Some clients write several into one parameter, or the same one twice.
    const joined = ['repository:team-a/x:pull repository:public/y:pull', 'repository:team-a/x:push']
    expect(accessIn(await client.tokenFor(joined, alice))).toEqual([
      scope('team-a/x', 'pull', 'push'),
      scope('public/y', 'pull'),
    ])
    expect(
      accessIn(await client.tokenFor(['registry:catalog:*', 'plugin:x:*', 'nonsense'], bob)),
    ).toEqual([{ type: 'registry', name: 'catalog', actions: ['*'] }])
  })

  it('answers the form of OAuth2 too', async () => {
    const form = (fields: Record<string, string>) =>
      client.send(
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
    const token = await client.tokenFor(['repository:team-a/x:pull'], alice)
    expect((await client.send('/v2/token?scope=repository:team-a/x:pull', token)).status).toBe(401)
    const secret = token.authorization.slice('Bearer '.length)
    expect((await client.send('/v2/', basic('alice', secret))).status).toBe(401)
  })

  it('limits what a token is good for', async () => {
    const pull = await client.tokenFor(['repository:team-a/x:pull'], alice)
    const refused = await client.send('/v2/team-a/x/blobs/uploads/', pull, { method: 'POST' })
    expect([refused.status, refused.challenge?.parameters]).toEqual([
      401,
      expect.objectContaining({
        error: 'insufficient_scope',
        scope: 'repository:team-a/x:pull,push',
      }),
    ])
    expect((await client.send('/v2/team-a/y/tags/list', pull)).status).toBe(401)
    expect((await client.send('/v2/team-a/x/tags/list', pull)).status).toBe(404)
    // What no token would be good for is no matter of the token.
    expect((await client.send('/v2/team-b/y/tags/list', pull)).status).toBe(403)
    // Nor is any of them good for the server itself.
    expect(
      (await client.send('/metrics', await client.tokenFor(['repository:a:*'], robot))).status,
    ).toBe(403)
    expect((await fetch(`${server.url}/metrics`, { headers: robot })).status).toBe(200)
  })
})

describe('content of other repositories', () => {
  const mount = (name: string, query: string, headers: SentHeaders) =>
    client.send(`/v2/${name}/blobs/uploads/?${query}`, headers, { method: 'POST' })

  it('is mounted only where the caller may pull it', async () => {
    const secret = await client.pushBlob('team-b/secret', Buffer.from('of team b'), robot)
    const shared = await client.pushBlob('public/shared', Buffer.from('of all'), robot)
    expect((await mount('team-a/x', `mount=${secret}&from=team-b/secret`, alice)).status).toBe(202)
    expect((await mount('team-a/x', `mount=${secret}`, alice)).status).toBe(202)
    expect((await mount('team-a/x', `mount=${shared}&from=public/shared`, alice)).status).toBe(201)
    expect((await mount('team-a/y', `mount=${shared}`, alice)).status).toBe(201)
    expect((await client.send(`/v2/team-a/x/blobs/${secret}`, alice)).status).toBe(404)
  })

  it('is named only with a token for it', async () => {
    const digest = await client.pushBlob('team-a/source', Buffer.from('source'), alice)
    const narrow = await client.tokenFor(['repository:team-a/z:pull,push'], alice)
    const query = `mount=${digest}&from=team-a/source`
    const refused = await mount('team-a/z', query, narrow)
    expect(refused.status).toBe(401)
    const scope = refused.challenge?.parameters['scope'] ?? ''
    expect(scope).toBe('repository:team-a/z:pull,push repository:team-a/source:pull')
    expect((await mount('team-a/z', query, await client.tokenFor([scope], alice))).status).toBe(201)
  })
})

describe('the list of repositories', () => {
  const names = async (headers: SentHeaders, query = '') => {
    const { json, headers: answered } = await client.send(`/v2/_catalog${query}`, headers)
    return { names: Object(json).repositories, link: answered.get('link') }
  }

  it('shows what the caller may pull, in pages', async () => {
    for (const name of ['public/a', 'team-a/a', 'team-b/a', 'team-b/b', 'team-b/c', 'zoo']) {
      await client.pushImage(name, '1', robot)
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
    const { status, challenge } = await client.send('/v2/_catalog', await client.tokenFor([], bob))
    expect([status, challenge?.parameters['scope']]).toEqual([401, 'registry:catalog:*'])
    const right = await client.tokenFor(['registry:catalog:*'], bob)
    expect((await names(right)).names).toContain('team-a/a')
  })
})
