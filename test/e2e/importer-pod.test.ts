import { createHash } from 'node:crypto'
import { mkdir, readdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hash } from '@node-rs/bcrypt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { passwords, robotToken } from '../fixtures/access-server.ts'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { createAuthority } from '../fixtures/certificates.ts'
import { freePort } from '../fixtures/ports.ts'
import { startWebServer, type WebServer } from '../fixtures/web-server.ts'
import { startAuthServer } from './auth-setup.ts'
import { startGatedSource } from './gated-source.ts'
import { startPodSetup, type PodSetup } from './importer-setup.ts'

const disk = bootSectorDisk({ size: 4 * 1024 * 1024 })
const sha256 = createHash('sha256').update(disk).digest('hex')
const owned = new AsyncDisposableStack()
let setup: PodSetup
let web: WebServer

beforeAll(async () => {
  setup = owned.use(await startPodSetup())
  web = owned.use(
    await startWebServer(({ url, headers }, response) => {
      const isKnown = url !== '/private.raw' || headers['x-key'] === 'very-secret'
      if (url === '/SHA256SUMS') response.end(`${sha256}  disk.raw\n`)
      else if (isKnown) response.writeHead(200, { 'content-length': disk.length }).end(disk)
      else response.writeHead(401).end()
    }),
  )
})
afterAll(() => owned.disposeAsync())

/** A folder with files, as a secret is mounted. */
async function mount(name: string, files: Readonly<Record<string, string>>): Promise<string> {
  const folder = join(setup.folder, name)
  await mkdir(folder)
  for (const [file, text] of Object.entries(files)) await writeFile(join(folder, file), text)
  return folder
}

const manifest = (path: string, password: string = passwords.alice) =>
  setup.server.curl('1.1', ['-I', '-u', `alice:${password}`, `${setup.server.url}/v2/${path}`])

describe('dvcr importer', () => {
  it('imports over TLS with a login, and says what came of it', async () => {
    const source = `${web.origin}/disk.raw`
    const image = 'team-a/pod:1'
    const { exitCode, message, stderr } = await setup.run({
      SOURCE: source,
      SHA256: sha256,
      IMAGE: image,
    })
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining('import succeeded')])
    expect(message).toMatchObject({
      'source-image-size': disk.length,
      'source-image-virtual-size': disk.length,
      'source-image-format': 'raw',
      duration: expect.any(Number),
      'average-speed': expect.any(Number),
      'layer-digest': expect.stringMatching(/^sha256:/),
      'content-digest': expect.stringMatching(/^sha256:/),
      'stored-size': expect.any(Number),
    })
    const { body } = await manifest('team-a/pod/manifests/1')
    expect(body).toContain(String(message['digest']))
  })

  it('takes the secrets of both sides from mounted folders', async () => {
    const auth = Buffer.from(`alice:${passwords.alice}`).toString('base64')
    const auths = { [new URL(setup.server.url).host]: { auth } }
    const { exitCode, message } = await setup.run({
      SOURCE: `${web.origin}/private.raw`,
      SOURCE_CREDENTIALS: await mount('source', { headers: 'X-Key: very-secret\n' }),
      TARGET_CREDENTIALS: await mount('docker', { '.dockerconfigjson': JSON.stringify({ auths }) }),
      IMAGE: 'team-a/private:1',
    })
    expect([exitCode, message['source-image-format']]).toEqual([0, 'raw'])
  })

  it('goes to a mirror, and takes the checksum from a list', async () => {
    const nobody = `http://127.0.0.1:${await freePort()}/disk.raw`
    const { exitCode, message } = await setup.run({
      SOURCE: nobody,
      MIRRORS: `${nobody} ${web.origin}/disk.raw`,
      CHECKSUMS_URL: `${web.origin}/SHA256SUMS`,
      IMAGE: 'team-a/mirrored:1',
    })
    expect([exitCode, message['source-image-size']]).toEqual([0, disk.length])
  })

  it('imports from a registry with the login that docker keeps for it', async () => {
    await using registry = await startAuthServer()
    const auth = Buffer.from(`ci:${robotToken}`).toString('base64')
    const login = await mount('robot', {
      'config.json': JSON.stringify({ auths: { [registry.host]: { auth } } }),
    })
    const first = await setup.run({
      SOURCE: web.origin,
      IMAGE: 'any/where:1',
      TARGET: registry.url,
      TARGET_CREDENTIALS: login,
    })
    expect(first.exitCode).toBe(0)
    const source = { SOURCE: `docker://${registry.host}/any/where:1`, IMAGE: 'team-a/copied:1' }
    const refused = await setup.run(source)
    expect([refused.exitCode, refused.message['error-code']]).toEqual([1, 'SOURCE_DENIED'])
    const { exitCode, message } = await setup.run({ ...source, SOURCE_CREDENTIALS: login })
    expect([exitCode, message['layer-digest']]).toEqual([0, first.message['layer-digest']])
  })

  it('does not start where its metrics cannot be seen', async () => {
    const listen = new URL(setup.server.url).host
    const image = { SOURCE: web.origin, IMAGE: 'team-a/taken:1' }
    const { exitCode, message } = await setup.run({ ...image, LISTEN: listen })
    expect([exitCode, message['error-code']]).toEqual([2, 'SETTING_INVALID'])
    expect(message['error-message']).toContain(`cannot listen on http://${listen}: `)
  })

  it.each([
    { what: 'a wrong checksum', settings: { SHA256: 'f'.repeat(64) }, code: 'CHECKSUM_MISMATCH' },
    { what: 'an address inside', settings: { IMPORT_POLICY: '' }, code: 'SOURCE_FORBIDDEN' },
    { what: 'no right', settings: { IMAGE: 'team-b/x:1' }, code: 'DENIED' },
    { what: 'too large a disk', settings: { MAX_VIRTUAL_SIZE: '1Mi' }, code: 'SIZE_EXCEEDED' },
  ])('ends for good with $what', async ({ settings, code }) => {
    const source = `${web.origin}/disk.raw`
    const { exitCode, message } = await setup.run({
      SOURCE: source,
      IMAGE: 'team-a/bad:1',
      ...settings,
    })
    expect(message).toEqual({
      'error-message': expect.any(String),
      'error-code': code,
      'error-retryable': false,
    })
    expect(exitCode).toBe(1)
  })

  it('ends for now where the source or the target is down', async () => {
    const nobody = `127.0.0.1:${await freePort()}`
    const image = { IMAGE: 'team-a/down:1' }
    const down = await setup.run({ SOURCE: `http://${nobody}/disk.raw`, ...image })
    expect([down.exitCode, down.message['error-code']]).toEqual([3, 'SOURCE_UNAVAILABLE'])
    expect(down.message['error-retryable']).toBe(true)
    const target = { TARGET: `https://${nobody}` }
    const noTarget = await setup.run({ SOURCE: web.origin, ...image, ...target })
    expect([noTarget.exitCode, noTarget.message['error-code']]).toEqual([3, 'TARGET_UNAVAILABLE'])
  })

  it('trusts no certificate but those of its authority', async () => {
    const { ca } = await createAuthority(setup.folder, 'other')
    const before = web.requests.length
    const { exitCode, message, stderr } = await setup.run({
      SOURCE: web.origin,
      IMAGE: 'team-a/tls:1',
      TARGET_CA: ca,
    })
    expect([exitCode, message['error-code']]).toEqual([3, 'TARGET_UNAVAILABLE'])
    expect(stderr).toMatch(/certificate/)
    expect(web.requests.length).toBe(before)
  })

  it.each([
    [{}, 'DVCR_IMPORTER_IMAGE: '],
    [{ IMAGE: 'a:1', SHA1: 'x' }, 'DVCR_IMPORTER_SHA1: expected 40 hex digits'],
    [{ IMAGE: 'a:1', TARGET: 'http://registry.example' }, 'DVCR_IMPORTER_TARGET: expected https'],
    [{ IMAGE: 'a:1', TARGET_CREDENTIALS: '/nowhere' }, 'cannot read /nowhere: ENOENT'],
    [{ IMAGE: 'a:1', LISTEN: 'x' }, 'DVCR_IMPORTER_LISTEN: '],
  ])('refuses the settings %j', async (settings, text) => {
    const { exitCode, message } = await setup.run({ SOURCE: web.origin, ...settings })
    expect([exitCode, message['error-code']]).toEqual([2, 'SETTING_INVALID'])
    expect(message['error-message']).toContain(text)
  })

  it('goes on with the login that takes the place of its own', async () => {
    await using source = await startGatedSource(disk)
    const pod = await setup.start({ SOURCE: source.url, IMAGE: 'team-a/rotated:1' })
    await source.held()
    const line = `alice:${await hash('another-secret', { cost: 4 })}\n`
    await writeFile(join(setup.folder, 'htpasswd.new'), line)
    await rename(join(setup.folder, 'htpasswd.new'), join(setup.folder, 'htpasswd'))
    await writeFile(join(setup.login, 'password'), 'another-secret')
    const tags = 'team-a/pod/tags/list'
    await expect.poll(async () => (await manifest(tags)).status).toBe(401)
    source.open()
    const { exitCode, stderr } = await pod.ended
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining('import succeeded')])
    const { status } = await manifest('team-a/rotated/manifests/1', 'another-secret')
    expect(status).toBe(200)
    expect(stderr).not.toContain('secret')
  })

  it('shows how far it is, and gives up when it is told to', async () => {
    await using source = await startGatedSource(disk)
    const pod = await setup.start({ SOURCE: source.url, IMAGE: 'team-a/seen:1' })
    await source.held()
    const read = async (): Promise<string[]> =>
      (await (await fetch(`${pod.url}/metrics`)).text()).split('\n')
    await expect.poll(read).toContain('registry_progress{ownerUID="uid-1"} 50')
    const lines = await read()
    expect(lines).toContain('dvcr_imports_active{state="running"} 1')
    expect(lines).toContain(`dvcr_imports_running_bytes ${disk.length / 2}`)
    for (const name of ['registry_average_speed', 'registry_current_speed']) {
      expect(lines).toContainEqual(expect.stringMatching(`^${name}{ownerUID="uid-1"} [0-9.]+$`))
    }
    expect((await fetch(`${pod.url}/healthz`)).status).toBe(200)
    expect((await fetch(`${pod.url}/other`)).status).toBe(404)
    pod.kill('SIGTERM')
    const { exitCode, message } = await pod.ended
    expect(exitCode).toBe(130)
    expect(message).toMatchObject({ 'error-code': 'CANCELLED', 'error-retryable': true })
    expect(await readdir(pod.scratch)).toEqual([])
  })

  it('gives up its upload when it is told to stop', async () => {
    const seen: string[] = []
    await using registry = await startWebServer(({ method = '', url = '' }, response) => {
      seen.push(`${method} ${url}`)
      // The bytes of an upload are never read to their end.
      if (method === 'PATCH') return
      const status = { POST: 202, DELETE: 204 }[method] ?? 404
      response.writeHead(status, { location: '/v2/a/blobs/uploads/1' }).end()
    })
    const pod = await setup.start({ SOURCE: web.origin, IMAGE: 'a:1', TARGET: registry.origin })
    await expect.poll(() => seen).toContain('PATCH /v2/a/blobs/uploads/1')
    pod.kill('SIGTERM')
    expect((await pod.ended).exitCode).toBe(130)
    expect(seen.at(-1)).toBe('DELETE /v2/a/blobs/uploads/1')
    expect(await readdir(pod.scratch)).toEqual([])
  })
})
