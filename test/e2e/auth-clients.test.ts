import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { passwords, robotToken, teamRules } from '../fixtures/access-server.ts'
import { goTool } from '../fixtures/go-tools.ts'
import { startAuthServer, type AuthServer } from './auth-setup.ts'
import { jsonLines } from './json-lines.ts'

const owned = new AsyncDisposableStack()
let server: AuthServer
let layer: string
/** Of the user who runs the clients: their logins. */
let home: string

beforeAll(async () => {
  server = owned.use(await startAuthServer())
  const { folder } = server
  await writeFile(join(folder, 'disk.img'), randomBytes(3_000_000))
  layer = join(folder, 'layer.tar')
  await execa('tar', ['-C', folder, '-cf', layer, 'disk.img'])
  home = join(folder, 'home')
})
afterAll(() => owned.disposeAsync())
beforeEach(() => rm(home, { recursive: true, force: true }))

interface Outcome {
  readonly ok: boolean
  readonly output: string
}

async function run(program: string, args: readonly string[], input = ''): Promise<Outcome> {
  const env = { HOME: home, DOCKER_CONFIG: join(home, '.docker') }
  await mkdir(env.DOCKER_CONFIG, { recursive: true })
  const { failed, stdout, stderr } = await execa(program, args, { reject: false, env, input })
  return { ok: !failed, output: `${stdout}\n${stderr}` }
}

const crane = (...args: readonly string[]) => run(goTool('crane'), args)
const at = (image: string): string => `${server.host}/${image}`

async function login(user: string, password: string): Promise<void> {
  const args = ['auth', 'login', server.host, '-u', user, '--password-stdin']
  const { ok, output } = await run(goTool('crane'), args, password)
  if (!ok) throw new Error(output)
}

const push = (image: string) => crane('append', '--new_layer', layer, '-t', at(image))

describe('crane', () => {
  it('pushes where the login may, and mounts blobs of other repositories', async () => {
    expect((await push('team-a/x:1')).ok).toBe(false)
    await login('alice', passwords.alice)
    expect(await push('team-a/x:1')).toMatchObject({ ok: true })
    const denied = await push('team-b/x:1')
    expect(denied.ok).toBe(false)
    expect(denied.output).toContain('403')
    const copied = await crane('copy', at('team-a/x:1'), at('team-a/y:1'))
    expect(copied.output.split('mounted blob')).toHaveLength(3)
    expect((await crane('ls', at('team-a/y'))).output).toContain('1')
    expect(await crane('delete', at('team-a/y:1'))).toMatchObject({ ok: true })
  })

  it('pulls without a login what everybody may', async () => {
    await login('ci', robotToken)
    expect(await push('public/x:1')).toMatchObject({ ok: true })
    expect(await push('team-a/hidden:1')).toMatchObject({ ok: true })
    await rm(home, { recursive: true })
    const target = join(server.folder, 'pulled')
    expect(await crane('pull', '--format=oci', at('public/x:1'), target)).toMatchObject({
      ok: true,
    })
    // Manifest, config and layer.
    expect(await readdir(join(target, 'blobs/sha256'))).toHaveLength(3)
    expect((await crane('manifest', at('team-a/hidden:1'))).ok).toBe(false)
    expect((await crane('catalog', server.host)).output.trim()).toBe('public/x')
  })

  it('is refused with a wrong password', async () => {
    await login('alice', passwords.bob)
    const { ok, output } = await crane('catalog', server.host)
    expect(ok).toBe(false)
    expect(output).toContain('UNAUTHORIZED')
  })

  it('is given tokens that end, even where the key of the store has signed them', async () => {
    const query = 'scope=repository:team-a/x:pull'
    const authorization = `Basic ${Buffer.from(`alice:${passwords.alice}`).toString('base64')}`
    const answer = await fetch(`${server.url}/v2/token?${query}`, { headers: { authorization } })
    const { token } = Object(await answer.json())
    const folder = join(server.folder, 'data/v1/auth/token-keys')
    const [name = ''] = await readdir(folder)
    const { k } = Object(JSON.parse(await readFile(join(folder, name), 'utf8')))
    const get = async (bearer: string) =>
      (
        await fetch(`${server.url}/v2/team-a/x/tags/list`, {
          headers: { authorization: `Bearer ${bearer}` },
        })
      ).status
    expect(await get(token)).toBe(200)
    const seconds = Math.floor(Date.now() / 1000)
    const expired = await new SignJWT({
      kind: 'user',
      access: [{ type: 'repository', name: 'team-a/x', actions: ['pull'] }],
    })
      .setProtectedHeader({ alg: 'HS256', kid: name.replace('.json', '') })
      .setIssuer('dvcr')
      .setAudience('dvcr')
      .setSubject('alice')
      .setExpirationTime(seconds - 60)
      .sign(Buffer.from(k, 'base64url'))
    expect(await get(expired)).toBe(401)
  })
})

describe('skopeo', () => {
  const skopeo = (...args: readonly string[]) => run('skopeo', args)
  const insecure = ['--src-tls-verify=false', '--dest-tls-verify=false']
  const remote = (image: string): string => `docker://${at(image)}`

  beforeAll(async () => {
    await login('ci', robotToken)
    await push('public/skopeo:1')
  })

  it('copies with the credentials of each side', async () => {
    const to = (user: 'alice' | 'bob', image: string) =>
      skopeo(
        'copy',
        ...insecure,
        '--dest-creds',
        `${user}:${passwords[user]}`,
        remote('public/skopeo:1'),
        remote(image),
      )
    expect(await to('alice', 'team-a/skopeo:1')).toMatchObject({ ok: true })
    const denied = await to('bob', 'team-a/skopeo:2')
    expect(denied.ok).toBe(false)
    expect(denied.output).toMatch(/403|denied/i)
    const pull = (...creds: readonly string[]) =>
      skopeo('copy', ...insecure, ...creds, remote('team-a/skopeo:1'), `dir:${server.folder}/got`)
    expect((await pull()).ok).toBe(false)
    expect(await pull('--src-creds', `bob:${passwords.bob}`)).toMatchObject({ ok: true })
  })

  it('deletes where that is allowed', async () => {
    const remove = (user: 'alice' | 'bob') =>
      skopeo(
        'delete',
        '--tls-verify=false',
        '--creds',
        `${user}:${passwords[user]}`,
        remote('team-a/skopeo:1'),
      )
    expect((await remove('bob')).ok).toBe(false)
    expect(await remove('alice')).toMatchObject({ ok: true })
  })

  it('logs in, or learns that it cannot', async () => {
    const args = ['login', '--tls-verify=false', '-u', 'bob', '--password-stdin', server.host]
    expect((await run('skopeo', args, 'wrong')).ok).toBe(false)
    expect(await run('skopeo', args, passwords.bob)).toMatchObject({ ok: true })
  })
})

it('regctl copies by mounting', async () => {
  const regctl = (...args: readonly string[]) => run(goTool('regctl'), args)
  await login('ci', robotToken)
  expect(await push('public/regctl:1')).toMatchObject({ ok: true })
  await rm(home, { recursive: true })
  await regctl('registry', 'set', '--tls', 'disabled', server.host)
  await regctl('registry', 'login', server.host, '-u', 'alice', '-p', passwords.alice)
  const copy = await regctl('image', 'copy', at('public/regctl:1'), at('team-a/regctl:1'))
  expect(copy).toMatchObject({ ok: true })
  const events = () =>
    jsonLines(server.output())
      .filter(({ repository }) => repository === 'team-a/regctl')
      .map(({ audit, identity }) => `${String(audit)} ${String(identity)}`)
  const expected = ['blob.mount', 'blob.mount', 'manifest.push'].map(
    (event) => `${event} user:alice`,
  )
  await expect.poll(events, { timeout: 10_000 }).toEqual(expected)
})

it('curl needs no token: Basic, or a token of its own as Bearer', async () => {
  const curl = async (...args: readonly string[]) => {
    const write = ['-s', '-o', '/dev/null', '-w', '%{http_code}']
    return (await run('curl', [...write, ...args])).output.trim()
  }
  const tags = `${server.url}/v2/team-a/x/tags/list`
  expect(await curl(tags)).toBe('401')
  expect(await curl('-u', `bob:${passwords.bob}`, tags)).toBe('200')
  expect(await curl('-u', `bob:${passwords.bob}`, '-X', 'DELETE', `${tags}/../manifests/1`)).toBe(
    '403',
  )
  expect(await curl('-H', `Authorization: Bearer ${robotToken}`, tags)).toBe('200')
  expect(await curl('-u', `any:${robotToken}`, `${server.url}/metrics`)).toBe('200')
  expect(await curl(`${server.url}/metrics`)).toBe('401')
  expect(await curl(`${server.url}/readyz`)).toBe('200')
})

it('rules that change hold at once, also for tokens that are out', async () => {
  await using changing = await startAuthServer()
  const authorization = `Basic ${Buffer.from(`bob:${passwords.bob}`).toString('base64')}`
  const answer = await fetch(`${changing.url}/v2/token?scope=repository:team-a/x:pull`, {
    headers: { authorization },
  })
  const { token } = Object(await answer.json())
  const status = async () => {
    const headers = { authorization: `Bearer ${token}` }
    return (await fetch(`${changing.url}/v2/team-a/x/tags/list`, { headers })).status
  }
  expect(await status()).toBe(404)
  await changing.changeRules({ ...teamRules, rules: teamRules.rules.slice(0, 2) })
  process.kill(changing.pid, 'SIGHUP')
  await expect.poll(status, { timeout: 20_000 }).toBe(403)
  // A broken file changes nothing.
  await changing.changeRules({ rules: 'none' })
  process.kill(changing.pid, 'SIGHUP')
  await expect.poll(() => changing.output(), { timeout: 20_000 }).toContain('access.yaml: rules:')
  expect(await status()).toBe(403)
})

it('nothing that was printed or logged holds a secret', () => {
  const output = server.output()
  expect(jsonLines(output).length).toBeGreaterThan(50)
  const secrets = [...Object.values(passwords), robotToken]
  const encoded = Object.entries(passwords).map(([user, password]) =>
    Buffer.from(`${user}:${password}`).toString('base64'),
  )
  for (const secret of [...secrets, ...encoded, 'eyJhbGciOi']) expect(output).not.toContain(secret)
})
