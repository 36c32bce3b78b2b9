import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, passwords, robotToken } from '../fixtures/access-server.ts'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startMisbehavingServer, type MisbehavingServer } from '../fixtures/misbehaving.ts'
import { startAuthServer, type AuthServer } from './auth-setup.ts'
import { dvcr, type Outcome } from './dvcr-command.ts'
import { jsonLines } from './json-lines.ts'

const owned = new AsyncDisposableStack()
let server: AuthServer
let source: MisbehavingServer
let disk: string

beforeAll(async () => {
  server = owned.use(await startAuthServer())
  const bytes = bootSectorDisk({ size: 1024 * 1024 })
  source = owned.use(await startMisbehavingServer(bytes))
  disk = join(server.folder, 'disk.raw')
  await writeFile(disk, bytes)
})
afterAll(() => owned.disposeAsync())

/** A user of this machine with docker's file of logins. */
async function userOf(name: string, config?: object) {
  const folder = join(server.folder, name)
  await mkdir(folder, { recursive: true })
  const file = join(folder, 'config.json')
  if (config) await writeFile(file, JSON.stringify(config))
  const env = { DOCKER_CONFIG: folder, DVCR_SERVER: server.url }
  return {
    file,
    folder,
    env,
    run: (...args: readonly string[]): Promise<Outcome> => dvcr(args, { env }),
    login: (password: string): Promise<Outcome> =>
      dvcr(['login', server.host, '-u', name, '--password-stdin'], {
        env,
        input: Buffer.from(`${password}\n`),
      }),
  }
}

const lastLine = ({ stderr }: Outcome): string => stderr.trim().split('\n').at(-1) ?? ''

describe('dvcr login', () => {
  it('keeps a login that the registry accepts, and logout forgets it', async () => {
    const alice = await userOf('alice')
    const refused = await alice.login('wrong')
    expect([refused.exitCode, lastLine(refused)]).toEqual([
      1,
      expect.stringMatching(/^dvcr: UNAUTHORIZED: /),
    ])
    await expect(readFile(alice.file)).rejects.toThrow('ENOENT')
    expect(await alice.login(passwords.alice)).toMatchObject({ exitCode: 0, stdout: '' })
    const { auths } = Object(JSON.parse(await readFile(alice.file, 'utf8')))
    expect(Buffer.from(auths[server.host].auth, 'base64').toString()).toBe(
      `alice:${passwords.alice}`,
    )
    expect(lastLine(await alice.run('logout', server.host))).toBe(`logged out of ${server.host}`)
    expect(Object(JSON.parse(await readFile(alice.file, 'utf8'))).auths).toEqual({})
    expect(lastLine(await alice.run('logout', server.host))).toContain('there was no login')
  })

  it('keeps it with a credential helper where docker is told to', async () => {
    const user = await userOf('alice', { credsStore: 'test' })
    const helper = join(user.folder, 'docker-credential-test')
    await writeFile(helper, '#!/bin/sh\ncat > "$0.$1"\n')
    await chmod(helper, 0o755)
    const env = { ...user.env, PATH: `${user.folder}:${process.env['PATH']}` }
    const input = Buffer.from(passwords.alice)
    const args = ['login', server.url, '-u', 'alice', '--password-stdin']
    const outcome = await dvcr(args, { env, input })
    expect(outcome).toMatchObject({ exitCode: 0 })
    expect(JSON.parse(await readFile(`${helper}.store`, 'utf8'))).toEqual({
      ServerURL: server.host,
      Username: 'alice',
      Secret: passwords.alice,
    })
    expect(await readFile(user.file, 'utf8')).not.toContain('auth"')
  })

  it('says what it needs where there is nobody to ask', async () => {
    const user = await userOf('carol')
    const outcome = await user.run('login', server.host)
    expect([outcome.exitCode, lastLine(outcome)]).toEqual([
      2,
      expect.stringContaining('--password-stdin'),
    ])
    const bad = await user.run('login', 'http://x/y', '-u', 'a', '--password-stdin')
    expect([bad.exitCode, lastLine(bad)]).toEqual([2, expect.stringContaining('not a registry')])
  })
})

describe('commands', () => {
  it('work with a login on what it may', async () => {
    const alice = await userOf('alice', {})
    await alice.login(passwords.alice)
    expect(await alice.run('import', disk, 'team-a/file:1')).toMatchObject({ exitCode: 0 })
    const url = await alice.run('import', source.url('good'), 'team-a/url:1')
    expect(url).toMatchObject({ exitCode: 0 })
    const listed = await alice.run('images', '--json')
    expect(JSON.parse(listed.stdout).map(({ name }: { name: string }) => name)).toEqual([
      'team-a/file',
      'team-a/url',
    ])
    expect(await alice.run('tag', 'team-a/file:1', 'two')).toMatchObject({ exitCode: 0 })
    expect(await alice.run('rm', 'team-a/file:two')).toMatchObject({ exitCode: 0 })
    const elsewhere = await alice.run('import', source.url('good'), 'team-b/url:1')
    expect([elsewhere.exitCode, lastLine(elsewhere)]).toEqual([
      1,
      expect.stringMatching(/^dvcr: DENIED: user:alice has no right to push on team-b\/url/),
    ])
  })

  it('without a login get no further', async () => {
    const nobody = await userOf('nobody')
    const imported = await nobody.run('import', source.url('good'), 'team-a/nobody:1')
    expect(lastLine(imported)).toMatch(/^dvcr: UNAUTHORIZED: /)
    const removed = await nobody.run('rm', 'team-a/url:1')
    expect(lastLine(removed)).toMatch(/^dvcr: UNAUTHORIZED: /)
    expect(await nobody.run('images', '--json')).toMatchObject({ exitCode: 0, stdout: '[]' })
  })
})

describe('the image API', () => {
  const alice = basic('alice', passwords.alice)
  const bob = basic('bob', passwords.bob)
  const robot = { authorization: `Bearer ${robotToken}` }

  async function send(path: string, init: RequestInit = {}) {
    const response = await fetch(`${server.url}${path}`, init)
    const text = await response.text()
    const body: unknown = text === '' ? undefined : JSON.parse(text)
    return { status: response.status, body: Object(body) }
  }
  const post = (name: string, headers: Record<string, string>) =>
    send('/v1/imports', {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify({ source: source.url('good'), name }),
    })

  it('lets everybody do what the rules say', async () => {
    expect((await post('team-a/api', {})).status).toBe(401)
    expect((await post('team-a/api', bob)).status).toBe(403)
    expect((await post('team-b/api', alice)).status).toBe(403)
    const { status, body: record } = await post('team-a/api', alice)
    expect(status).toBe(202)
    await expect
      .poll(async () => (await send(`/v1/imports/${record.id}`, { headers: bob })).body.state, {
        timeout: 60_000,
      })
      .toBe('succeeded')
    const image = `/v1/image/${encodeURIComponent('team-a/api:latest')}`
    expect((await send(image)).status).toBe(401)
    expect((await send(image, { headers: bob })).status).toBe(200)
    expect((await send(`${image}/tags/x`, { method: 'PUT', headers: bob })).status).toBe(403)
    expect((await send(`${image}/tags/x`, { method: 'PUT', headers: alice })).status).toBe(201)
    expect((await send(image, { method: 'DELETE', headers: bob })).status).toBe(403)
    const cancel = { method: 'DELETE', headers: bob }
    expect((await send(`/v1/imports/${record.id}`, cancel)).status).toBe(403)
    expect((await send(`/v1/imports/${record.id}/events`)).status).toBe(401)
    expect((await send(image, { method: 'DELETE', headers: alice })).status).toBe(204)
  })

  it('lists what the caller may pull', async () => {
    await post('team-b/hidden', robot)
    const names = async (path: string, key: string, headers: Record<string, string>) => {
      const { body } = await send(path, { headers })
      const found: { name: string }[] = body[key] ?? []
      return new Set(found.map(({ name }) => name))
    }
    expect(await names('/v1/imports', 'imports', robot)).toContain('team-b/hidden')
    expect(await names('/v1/imports', 'imports', bob)).not.toContain('team-b/hidden')
    expect(await names('/v1/imports?limit=1', 'imports', bob)).toHaveProperty('size', 1)
    expect(await names('/v1/imports', 'imports', {})).toEqual(new Set())
    expect((await send('/v1/images?name=team-b%2Fhidden', { headers: bob })).status).toBe(403)
    expect((await send('/v1/images?name=team-a%2Fapi')).status).toBe(401)
  })

  it('keeps the Idempotency-Keys of callers apart', async () => {
    const key = { 'idempotency-key': 'nightly' }
    const first = await post('team-b/keyed', { ...robot, ...key })
    const second = await post('team-a/keyed', { ...alice, ...key })
    expect([first.status, second.status]).toEqual([202, 202])
    expect((await post('team-a/keyed', { ...alice, ...key })).body.id).toBe(second.body.id)
    const conflict = await post('team-a/other', { ...alice, ...key })
    expect(conflict.status).toBe(409)
    expect(JSON.stringify(conflict.body)).not.toContain(first.body.id)
  })

  it('is in the audit log', () => {
    const lines = jsonLines(server.output()).filter(({ msg }) => msg === 'audit')
    const of = (event: string) => lines.find(({ audit }) => audit === event)
    expect(of('import.start')).toMatchObject({
      identity: 'user:alice',
      repository: 'team-a/url',
      tag: '1',
      outcome: 'done',
      import: expect.stringMatching(/^[0-9a-f-]{36}$/),
      address: '127.0.0.1',
      requestId: expect.any(String),
    })
    expect(of('tag.set')).toMatchObject({ image: 'team-a/file:1', tag: 'two' })
    expect(of('image.delete')).toMatchObject({ image: 'team-a/file:two' })
    expect(of('access.refused')).toMatchObject({ outcome: 'refused' })
  })
})

it('a server for other machines needs rules, or to be told that it needs none', async () => {
  const listen = ['serve', '--listen', '0.0.0.0:0', '--data', join(server.folder, 'other')]
  const refused = await dvcr(listen)
  expect([refused.exitCode, lastLine(refused)]).toEqual([
    2,
    expect.stringContaining('--auth-config'),
  ])
  const missing = await dvcr([...listen, '--auth-config', join(server.folder, 'missing.yaml')])
  expect([missing.exitCode, lastLine(missing)]).toEqual([2, expect.stringContaining('ENOENT')])
})
