import { execa } from 'execa'
import { createHash, randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { fetchIndex, statusOf, wholeIndex } from '../clients/client-setup.ts'
import { createAuthority } from '../fixtures/certificates.ts'
import { startFlawedRegistry } from '../fixtures/flawed-registry.ts'
import { goTool } from '../fixtures/go-tools.ts'
import { writeOciLayout, type OciLayout } from '../fixtures/oci-layout.ts'
import { startDockerRegistry, startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { filesIn } from '../fixtures/store-at.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { startMirror, type MirrorSetup } from './mirror-setup.ts'
import { startTlsServer } from './tls-server.ts'

let owned: AsyncDisposableStack
let folder: string
let layout: OciLayout

beforeEach(async () => {
  owned = new AsyncDisposableStack()
  folder = owned.use(await createTempFolder()).path
  layout = await writeOciLayout(folder)
})
afterEach(() => owned.disposeAsync())

const skopeo = (...args: string[]) => execa('skopeo', args)
const plain = ['--src-tls-verify=false', '--dest-tls-verify=false']

async function push({ host }: Pick<RunningServer, 'host'>): Promise<void> {
  const target = `docker://${host}/team/disk:v1`
  await skopeo('copy', '--all', ...plain, `oci:${layout.path}:latest`, target)
}

async function mirrorOf(upstream: string, settings = {}): Promise<MirrorSetup> {
  return owned.use(await startMirror({ upstream, ...settings }))
}

const upstreams: [string, () => Promise<RunningServer>][] = [
  ['docker-registry', () => startDockerRegistry()],
  ['dvcr', () => startDvcr({ data: join(folder, 'upstream') })],
]

test.each(upstreams)('skopeo and crane pull through from %s', async (_name, start) => {
  const upstream = owned.use(await start())
  await push(upstream)
  const mirror = await mirrorOf(upstream.url, { ttl: '0s' })
  const { host } = mirror.server
  const image = `${host}/hub/team/disk:v1`
  const pulled = join(folder, 'pulled')
  await skopeo('copy', '--all', ...plain, `docker://${image}`, `oci:${pulled}:latest`)
  for (const file of await filesIn(join(layout.path, 'blobs'))) {
    const copy = file.replace(layout.path, pulled)
    expect((await readFile(copy)).equals(await readFile(file))).toBe(true)
  }
  const digest = await execa(goTool('crane'), ['digest', '--insecure', image])
  expect(digest.stdout).toBe(layout.index.digest)
  const refused = await skopeo('copy', ...plain, `oci:${layout.path}:latest`, `docker://${image}`)
    .then(() => 'pushed')
    .catch(String)
  expect(refused).toContain('are a mirror of')

  await upstream.kill9()
  const again = join(folder, 'again.tar')
  await execa(goTool('crane'), ['pull', '--insecure', '--platform', 'linux/arm64', image, again])
  expect(await fetchIndex(mirror.server, 'hub/team/disk', 'v1')).toEqual(wholeIndex(layout))
  const tags = await fetch(`${mirror.server.url}/v2/hub/team/disk/tags/list`)
  expect(await tags.json()).toEqual({ name: 'hub/team/disk', tags: ['v1'] })
})

test('a list of images asks the upstream for nothing', async () => {
  const upstream = owned.use(await startDvcr({ data: join(folder, 'upstream') }))
  await push(upstream)
  for (const tag of ['v2', 'v3']) {
    const from = `docker://${upstream.host}/team/disk`
    await skopeo('copy', '--all', ...plain, `${from}:v1`, `${from}:${tag}`)
  }
  const mirror = await mirrorOf(upstream.url)
  const at = (path: string): string => `${mirror.server.url}${path}`
  expect(await statusOf(mirror.server, 'hub/team/disk', 'manifests/v1')).toBe(200)
  const asked = 'dvcr_mirror_requests_total{mirror="hub",kind="manifest",outcome="miss"}'
  expect(await mirror.counter(asked)).toBe(1)
  const listed = await fetch(at('/v1/images'))
  expect(await listed.json()).toMatchObject({ images: [{ name: 'hub/team/disk', tag: 'v1' }] })
  expect(Object(await (await fetch(at('/v1/images'))).json()).images).toHaveLength(1)
  expect(await mirror.counter(asked)).toBe(1)
})

test('many clients at once cost the upstream one transfer', async () => {
  const upstream = owned.use(await startDvcr({ data: join(folder, 'upstream') }))
  const bytes = randomBytes(64 * 1024 * 1024)
  const at = `${upstream.url}/v2/big/blobs/uploads/?digest=${digestOf(bytes)}`
  const headers = { 'content-type': 'application/octet-stream' }
  expect((await fetch(at, { method: 'POST', headers, body: bytes })).status).toBe(201)
  const mirror = await mirrorOf(upstream.url)
  const pull = async (): Promise<string> => {
    const response = await fetch(`${mirror.server.url}/v2/hub/big/blobs/${digestOf(bytes)}`)
    const hash = createHash('sha256')
    for await (const chunk of response.body ?? []) hash.update(chunk)
    return `sha256:${hash.digest('hex')}`
  }
  const pulled = await Promise.all(Array.from({ length: 8 }, pull))
  expect(new Set(pulled)).toEqual(new Set([digestOf(bytes)]))
  expect(await mirror.counter('dvcr_mirror_upstream_bytes_total{mirror="hub"}')).toBe(bytes.length)
})

test('a crash in the middle of a transfer leaves nothing that is served, and nothing for long', async () => {
  const upstream = owned.use(await startFlawedRegistry())
  const blob = randomBytes(4_000_000)
  upstream.add({ blob })
  const mirror = await mirrorOf(upstream.origin)
  const path = `/v2/hub/disk/blobs/${digestOf(blob)}`
  const stored = () => filesIn(join(mirror.folder, 'data/v1/data'))
  upstream.flaw((request, response) => {
    if (request.method !== 'GET') return false
    response.writeHead(200, { 'content-length': blob.length }).write(blob.subarray(0, 3_000_000))
    return true
  })
  const open = await fetch(`${mirror.server.url}${path}`)
  await open.body?.getReader().read()
  expect(await stored()).toHaveLength(1)
  await mirror.crash()
  expect(await stored()).toEqual([])
  upstream.flaw((_request, response) => {
    response.writeHead(500).end()
    return true
  })
  expect(await statusOf(mirror.server, 'hub/disk', `blobs/${digestOf(blob)}`)).toBe(502)
  upstream.flaw(undefined)
  const whole = await fetch(`${mirror.server.url}${path}`)
  expect(digestOf(Buffer.from(await whole.arrayBuffer()))).toBe(digestOf(blob))
  await expect.poll(stored).toHaveLength(1)
})

test('an upstream that wants tokens gets the login of the mirror', async () => {
  const token = randomBytes(20).toString('hex')
  const sha256 = createHash('sha256').update(token).digest('hex')
  const rules = [{ who: ['robot:mirror'], repositories: ['team/**'], actions: ['pull', 'push'] }]
  const access = { providers: { robots: { file: 'robots.yaml' } }, rules }
  await writeFile(join(folder, 'access.yaml'), JSON.stringify(access))
  await writeFile(join(folder, 'robots.yaml'), JSON.stringify({ mirror: { sha256 } }))
  await writeFile(join(folder, 'token'), `${token}\n`)
  const args = ['--auth-config', join(folder, 'access.yaml')]
  const upstream = owned.use(await startDvcr({ data: join(folder, 'upstream'), args }))
  const target = `docker://${upstream.host}/team/disk:v1`
  const login = ['--dest-creds', `mirror:${token}`, ...plain]
  await skopeo('copy', '--all', ...login, `oci:${layout.path}:latest`, target)

  const passwordFile = join(folder, 'token')
  const mirror = await mirrorOf(upstream.url, { user: 'mirror', passwordFile })
  expect(await fetchIndex(mirror.server, 'hub/team/disk', 'v1')).toEqual(wholeIndex(layout))
  const stranger = await mirrorOf(upstream.url)
  expect(await statusOf(stranger.server, 'hub/team/disk', 'manifests/v1')).toBe(403)
})

test('who may pull is decided by the name in this registry, also with ns', async () => {
  const upstream = owned.use(await startDockerRegistry())
  await push(upstream)
  const rules = [{ who: ['any'], repositories: ['hub/team/**'], actions: ['pull'] }]
  await writeFile(join(folder, 'access.yaml'), JSON.stringify({ rules }))
  const args = ['--auth-config', join(folder, 'access.yaml')]
  const { server } = owned.use(await startMirror({ upstream: upstream.url }, { args }))
  const status = (name: string, query = '') => statusOf(server, name, `manifests/v1${query}`)
  expect(await status('hub/team/disk')).toBe(200)
  expect(await status('team/disk', `?ns=${upstream.host}`)).toBe(200)
  expect(await status('team/disk')).toBe(401)
  expect(await status('other/disk', `?ns=${upstream.host}`)).toBe(401)
})

test('an upstream with TLS is trusted by its authority', async () => {
  const authority = await createAuthority(folder)
  const files = await authority.issue('upstream')
  const data = join(folder, 'upstream')
  const upstream = owned.use(await startTlsServer({ data, ca: authority.ca, files }))
  await push({ host: upstream.url.replace('https://', '') })
  const statusWith = async (settings: object): Promise<number> => {
    const { server } = await mirrorOf(upstream.url, settings)
    return statusOf(server, 'hub/team/disk', 'manifests/v1')
  }
  expect(await statusWith({ ca: authority.ca })).toBe(200)
  expect(await statusWith({ insecure: true })).toBe(200)
  expect(await statusWith({})).toBe(502)
})

test('SIGHUP gives the mirror other settings, and what it holds is still there', async () => {
  const first = owned.use(await startDockerRegistry())
  const second = owned.use(await startDvcr({ data: join(folder, 'upstream') }))
  await push(first)
  await push(second)
  const mirror = await mirrorOf(first.url)
  const status = (name: string, what: string) => statusOf(mirror.server, name, what)
  expect(await status('hub/team/disk', 'manifests/v1')).toBe(200)
  await mirror.reload({ upstream: second.url, prefix: 'other' })
  await expect.poll(() => status('other/team/disk', 'manifests/v1')).toBe(200)
  await first.kill9()
  expect(await status('hub/team/disk', 'manifests/v1')).toBe(200)
})

test('replicas on a bucket share what each has pulled', async () => {
  const s3 = owned.use(await startVersitygw())
  const upstream = owned.use(await startDockerRegistry())
  await push(upstream)
  const options = { data: `s3://${s3.bucket}/mirror`, args: ['--s3-endpoint', s3.url] }
  const fields = { upstream: upstream.url }
  const one = owned.use(await startMirror(fields, options))
  const other = owned.use(await startMirror(fields, options))
  expect(await fetchIndex(one.server, 'hub/team/disk', 'v1')).toEqual(wholeIndex(layout))
  await upstream.kill9()
  // The last byte of a blob is sent a moment before the bucket has all of it.
  const pulled = () => fetchIndex(other.server, 'hub/team/disk', 'v1').catch(() => undefined)
  await expect.poll(pulled, { timeout: 30_000 }).toEqual(wholeIndex(layout))
})
