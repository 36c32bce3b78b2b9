import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { UnsecuredJWT } from 'jose'
import { digestOf } from '../../core/digest.ts'
import {
  basic,
  passwords,
  robotToken,
  startAccessServer,
  type AccessServer,
} from '../../test/fixtures/access-server.ts'
import { createAccessClient, type AccessClient } from '../../test/fixtures/access-client.ts'

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

describe('a request without credentials', () => {
  it('learns from /v2/ where tokens are', async () => {
    for (const path of ['/v2/', '/v2']) {
      const { status, code, challenge } = await client.send(path)
      expect([status, code]).toEqual([401, 'UNAUTHORIZED'])
      const realm = `${server.url}/v2/token`
      expect(challenge).toEqual({ scheme: 'bearer', parameters: { realm, service: 'dvcr' } })
    }
    expect((await client.send('/v2/', await client.tokenFor([]))).status).toBe(200)
  })

  it('is told what a token must be for', async () => {
    const wanted = async (method: string, path: string) => {
      const { status, challenge } = await client.send(path, {}, { method })
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
    await client.pushImage('public/open', '1', robot)
    await client.pushImage('team-a/closed', '1', robot)
    for (const headers of [{}, await client.tokenFor(['repository:public/open:pull,push'])]) {
      expect((await client.send('/v2/public/open/manifests/1', headers)).status).toBe(200)
      const push = await client.send('/v2/public/open/blobs/uploads/', headers, { method: 'POST' })
      expect([push.status, push.code]).toEqual([401, 'UNAUTHORIZED'])
    }
    // Neither says whether there is one.
    const hidden = await client.send('/v2/team-a/closed/manifests/1')
    const absent = await client.send('/v2/team-a/absent/manifests/1')
    expect([hidden.status, absent.status]).toEqual([401, 401])
  })

  it('reaches the state of the server, but not its metrics', async () => {
    expect((await client.send('/healthz')).status).toBe(200)
    expect((await client.send('/readyz')).status).toBe(200)
    const metrics = await client.send('/metrics')
    expect([metrics.status, metrics.challenge?.scheme]).toEqual([401, 'basic'])
    expect((await client.send('/metrics', alice)).status).toBe(403)
  })
})

describe('credentials', () => {
  it('are good at once, by Basic or Bearer', async () => {
    for (const headers of [alice, basic('any', robotToken), robot]) {
      expect((await client.send('/v2/', headers)).status).toBe(200)
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
      const { status, code, challenge } = await client.send('/v2/public/open/manifests/1', headers)
      expect([headers, status, code]).toEqual([headers, 401, 'UNAUTHORIZED'])
      expect(challenge?.parameters['scope']).toBe('repository:public/open:pull')
      const token = await client.send('/v2/token', headers)
      expect([token.status, token.challenge?.scheme]).toEqual([401, 'basic'])
    }
  })

  it('of a caller without the right are denied', async () => {
    const refused = [
      await client.send('/v2/team-a/x/blobs/uploads/', bob, { method: 'POST' }),
      await client.send('/v2/team-a/x/manifests/1', bob, { method: 'DELETE' }),
      await client.send('/v2/team-b/x/tags/list', bob),
      await client.send('/v2/public/x/blobs/uploads/', alice, { method: 'POST' }),
    ]
    expect(refused.map(({ status, code }) => [status, code])).toEqual(
      refused.map(() => [403, 'DENIED']),
    )
    expect(refused.map(({ challenge }) => challenge)).toEqual(refused.map(() => undefined))
  })
})
