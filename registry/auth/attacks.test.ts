import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hash } from '@node-rs/bcrypt'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { digestOf } from '../../core/digest.ts'
import { createLog } from '../../core/log.ts'
import { createAccessClient, type AccessClient } from '../../test/fixtures/access-client.ts'
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
import { openTls } from '../http/tls.ts'

const alice = basic('alice', passwords.alice)
const robot = { authorization: `Bearer ${robotToken}` }
const owned = new AsyncDisposableStack()
let server: AccessServer
let client: AccessClient

beforeAll(async () => {
  server = owned.use(await startAccessServer())
  client = createAccessClient(server.url)
})
afterAll(() => owned.disposeAsync())

/** The answer to a request whose target is sent as it is. */
async function sendRaw(target: string, authorization: string): Promise<string> {
  const socket = connectTcp(server.port, '127.0.0.1')
  const head = `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n`
  socket.write(`${head}Authorization: ${authorization}\r\n\r\n`)
  return text(socket)
}

const auditLines = (): unknown[] =>
  server
    .logged()
    .split('\n')
    .filter((line) => line.includes('"msg":"audit"'))
    .map((line) => JSON.parse(line))

describe('names that are none', () => {
  it('come back in no header', async () => {
    for (const name of ['a%0d%0aSet-Cookie:x', 'a%e2%82%ac', 'a%01', 'a%22,scope=%22z', 'A']) {
      const answer = await sendRaw(`/v2/${name}/manifests/x`, 'Bearer nobodys')
      expect(answer).toMatch(/^HTTP\/1\.1 401 /)
      expect(answer).toContain(
        `www-authenticate: Bearer realm="http://x/v2/token",service="dvcr"\r\n`,
      )
      expect(answer).toContain('{"errors":[{"code":"UNAUTHORIZED"')
    }
  })

  it('cost no more than others, whatever the rules are', async () => {
    const rules = [
      { who: ['any'], repositories: ['*-*-*-*-*-x', '**/a/**/a/**/x'], actions: ['pull'] },
    ]
    await using guarded = await startAccessServer({ rules: { ...teamRules, rules } })
    const { send } = createAccessClient(guarded.url)
    // Each would keep a regular expression busy for hours.
    for (const name of ['-'.repeat(20_000), 'a'.repeat(100) + '-'.repeat(150), 'a/'.repeat(127)]) {
      const scopes = new URLSearchParams({ scope: `repository:${name}:pull,push` })
      expect((await send(`/v2/token?${scopes.toString()}`)).status).toBe(200)
      const mount = new URLSearchParams({ mount: digestOf(Buffer.from('x')), from: name })
      const path = `/v2/team-a/x/blobs/uploads/?${mount.toString()}`
      expect((await send(path, alice, { method: 'POST' })).status).toBe(403)
    }
  })
})

describe('what one may do', () => {
  it('in one repository is no right in another whose name begins or ends like it', async () => {
    const token = await client.tokenFor(['repository:team-a/x:pull,push,delete'], alice)
    for (const name of ['team-a/x/y', 'team-a/xy', 'team-a', 'team-a/x_y']) {
      expect((await client.send(`/v2/${name}/tags/list`, token)).status).toBe(401)
    }
    const odd = [
      '*',
      '**',
      'team-a/*',
      'TEAM-A/x',
      'team-a/x:pull',
      'team-a/../team-b/x',
      'team-a/x/',
    ]
    for (const name of odd) {
      const wide = await client.tokenFor([`repository:${name}:*`], alice)
      expect((await client.send('/v2/team-b/x/tags/list', wide)).status).toBe(403)
      expect((await client.send('/v2/team-a/y/tags/list', wide)).status).toBe(401)
    }
  })

  it('with an upload is to go on with it where it was begun', async () => {
    const begun = await client.send('/v2/team-b/x/blobs/uploads/', robot, { method: 'POST' })
    const id = begun.headers.get('docker-upload-uuid')
    for (const method of ['GET', 'PATCH', 'DELETE']) {
      const there = await client.send(`/v2/team-a/x/blobs/uploads/${id}`, alice, { method })
      expect([method, there.status, there.code]).toEqual([method, 404, 'BLOB_UPLOAD_UNKNOWN'])
      const here = await client.send(`/v2/team-b/x/blobs/uploads/${id}`, alice, { method })
      expect([method, here.status]).toEqual([method, 403])
    }
    const finish = `/v2/team-a/x/blobs/uploads/${id}?digest=${digestOf(Buffer.alloc(0))}`
    expect((await client.send(finish, alice, { method: 'PUT' })).status).toBe(404)
    expect((await client.send(`/v2/team-b/x/blobs/uploads/${id}`, robot)).status).toBe(204)
  })

  it('is not found out by asking for what is there and what is not', async () => {
    const there = await client.pushBlob('team-b/x', Buffer.from('secret'), robot)
    await client.pushImage('team-b/x', '1', robot)
    const absent = digestOf(Buffer.from('absent'))
    const pairs: (readonly [string, string, string])[] = []
    for (const method of ['GET', 'HEAD', 'DELETE', 'PUT', 'PATCH', 'POST', 'OPTIONS']) {
      pairs.push([method, `/v2/team-b/x/blobs/${there}`, `/v2/team-b/x/blobs/${absent}`])
      pairs.push([method, '/v2/team-b/x/manifests/1', '/v2/team-b/none/manifests/1'])
      pairs.push([method, '/v2/team-b/x/tags/list', '/v2/team-b/none/tags/list'])
      const referrers = (digest: string): string => `/v2/team-b/x/referrers/${digest}`
      pairs.push([method, referrers(there), referrers(absent)])
    }
    const mount = (digest: string): string => `/v2/team-a/x/blobs/uploads/?mount=${digest}`
    pairs.push(['POST', mount(there), mount(absent)])
    pairs.push(['POST', `${mount(there)}&from=team-b/x`, `${mount(absent)}&from=team-b/x`])
    for (const headers of [alice, {}]) {
      for (const [method, one, other] of pairs) {
        const [first, second] = [
          await client.send(one, headers, { method }),
          await client.send(other, headers, { method }),
        ]
        expect([method, one, first.status]).toEqual([method, one, second.status])
        expect(first.status).toBeGreaterThan(headers === alice ? 201 : 400)
        expect(first.code).toBe(second.code)
      }
    }
  })
})

describe('the log', () => {
  it('does not take a push for a mount because the query says so', async () => {
    const bytes = Buffer.from('pushed')
    const digest = digestOf(bytes)
    const query = `digest=${digest}&mount=${digest}&from=team-b/x`
    const type = { 'content-type': 'application/octet-stream' }
    const init = { method: 'POST', body: bytes }
    const path = `/v2/team-a/disguised/blobs/uploads/?${query}`
    expect((await client.send(path, { ...alice, ...type }, init)).status).toBe(201)
    expect(auditLines().at(-1)).toMatchObject({
      audit: 'blob.push',
      repository: 'team-a/disguised',
    })
  })

  it('has no user info of a whole URL', async () => {
    const target = 'http://user:hidden-secret@host/v2/team-b/x/tags/list'
    expect(await sendRaw(target, alice.authorization)).toMatch(/^HTTP\/1\.1 403 /)
    expect(auditLines().at(-1)).toMatchObject({ path: '/v2/team-b/x/tags/list' })
    expect(server.logged()).not.toContain('hidden-secret')
  })

  it('says who has read everything', async () => {
    const response = await fetch(`${server.url}/v1/registry/export`, { headers: robot })
    await response.arrayBuffer()
    expect(auditLines().at(-1)).toMatchObject({ audit: 'registry.export', identity: 'robot:ci' })
  })
})

it('streams given up while the caller is asked for are not counted for ever', async () => {
  const { path } = owned.use(await createTempFolder())
  const authority = await createAuthority(path)
  const files = { ...(await authority.issue('server')), clientCa: undefined }
  const options = { log: createLog('silent'), clientCertificates: 'offered' } as const
  const tls = owned.use(await openTls(files, options))
  const limits = { identity: { concurrent: 4 } }
  const secure = owned.use(await startAccessServer({ tls, rules: { ...teamRules, limits } }))
  // Slow enough to go away meanwhile.
  const slow = await hash(passwords.alice, { cost: 10 })
  await writeFile(join(secure.folder, 'htpasswd'), `alice:${slow}\n`)
  await secure.access.reload()
  const session = connectHttp2(secure.url, { ca: await readFile(authority.ca) })
  owned.defer(() => session.destroy())
  const ask = () => session.request({ ':path': '/v2/', ...alice }).on('error', () => {})
  const streams = Array.from({ length: 4 }, ask)
  await new Promise((resolve) => setTimeout(resolve, 30))
  for (const stream of streams) stream.close()
  // Checked one after the other, those that were given up before it.
  const [answer] = await once(ask(), 'response')
  expect(answer[':status']).toBe(200)
})
