import { execa } from 'execa'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { digestOf } from '../../core/digest.ts'
import { goTool } from '../fixtures/go-tools.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import {
  fetchIndex,
  receivedBytes,
  setUpClient,
  statusOf,
  wholeIndex,
  type ClientSetup,
} from './client-setup.ts'

const chunkBytes = 30_000
const artifactType = 'application/vnd.example.report'
const listed = z.object({
  descriptors: z.array(z.object({ digest: z.string(), artifactType: z.string() })),
})

const stack = new AsyncDisposableStack()
let client: ClientSetup
let server: RunningServer

beforeAll(async () => {
  client = stack.use(await setUpClient())
  server = client.server
  await withoutTls(server)
  const source = `ocidir://${client.layout.path}:latest`
  await regctl('image', 'copy', source, `${server.host}/regctl/all:latest`)
})
afterAll(() => stack.disposeAsync())

const config = () => ({ REGCTL_CONFIG: join(client.folder, 'regctl.json') })
const regctl = (...args: readonly string[]) => client.run(goTool('regctl'), args, config())

async function withoutTls({ host }: RunningServer, ...options: readonly string[]): Promise<void> {
  await regctl('registry', 'set', host, '--tls', 'disabled', ...options)
}

async function putArtifact(subject: string, contents: string): Promise<string> {
  const file = join(client.folder, 'artifact.txt')
  await writeFile(file, contents)
  const put = ['artifact', 'put', '--artifact-type', artifactType, '--file', file]
  return regctl(...put, '--subject', subject, '--format', '{{.Manifest.GetDescriptor.Digest}}')
}

async function listArtifacts(image: string, ...filter: readonly string[]) {
  const list = ['artifact', 'list', image, '--format', '{{json .}}']
  return listed.parse(JSON.parse(await regctl(...list, ...filter))).descriptors
}

it('pushes an index with its images, and pulls it, blob by blob the same', async () => {
  const { layout, folder } = client
  expect(await fetchIndex(server, 'regctl/all', 'latest')).toEqual(wholeIndex(layout))
  const target = join(folder, 'pulled')
  await regctl('image', 'copy', `${server.host}/regctl/all:latest`, `ocidir://${target}:latest`)
  const blobs = await readdir(join(target, 'blobs/sha256'))
  const expected = await readdir(join(layout.path, 'blobs/sha256'))
  expect(blobs.toSorted()).toEqual(expected.toSorted())
})

it('pushes again elsewhere without sending what the registry has', async () => {
  const before = await receivedBytes(server)
  const source = `ocidir://${client.layout.path}:latest`
  await regctl('image', 'copy', source, `${server.host}/regctl/again:latest`)
  expect(await fetchIndex(server, 'regctl/again', 'latest')).toEqual(wholeIndex(client.layout))
  expect(await receivedBytes(server)).toBe(before)
})

it('mounts a blob of another repository', async () => {
  const [{ digest }] = client.layout.images[0].layers
  const before = await receivedBytes(server)
  const repository = (name: string) => `${server.host}/regctl/${name}`
  await regctl('blob', 'copy', repository('all'), repository('mounted'), digest)
  expect(await statusOf(server, 'regctl/mounted', `blobs/${digest}`)).toBe(200)
  expect(await receivedBytes(server)).toBe(before)
})

it('pushes in chunks', async () => {
  await using folder = await startDvcr({ data: join(client.folder, 'chunked') })
  await withoutTls(folder, '--blob-max', '1000', '--blob-chunk', String(chunkBytes))
  const source = `ocidir://${client.layout.path}:latest`
  await regctl('image', 'copy', source, `${folder.host}/regctl/chunked:latest`)
  expect(await fetchIndex(folder, 'regctl/chunked', 'latest')).toEqual(wholeIndex(client.layout))
  const metrics = await (await fetch(`${folder.url}/metrics`)).text()
  const layers = new Map(
    client.layout.images.flatMap(({ layers }) => layers.map(({ digest, size }) => [digest, size])),
  )
  const chunks = [...layers.values()].reduce((sum, size) => sum + Math.ceil(size / chunkBytes), 0)
  const patches = /^dvcr_http_request_duration_seconds_count\{.*method="PATCH".*\} (\d+)$/m
  expect(Number(patches.exec(metrics)?.[1])).toBe(chunks)
})

it('puts and gets a blob, and deletes it', async () => {
  const bytes = randomBytes(100_000)
  const env = config()
  const repository = `${server.host}/regctl/blob`
  const put = await execa(goTool('regctl'), ['blob', 'put', repository], { input: bytes, env })
  const digest = digestOf(bytes)
  expect(put.stdout).toBe(digest)
  const get = ['blob', 'get', repository, digest]
  const got = await execa(goTool('regctl'), get, { encoding: 'buffer', env })
  expect(Buffer.from(got.stdout).equals(bytes)).toBe(true)
  await regctl('blob', 'delete', repository, digest)
  expect(await statusOf(server, 'regctl/blob', `blobs/${digest}`)).toBe(404)
})

describe('artifacts of a subject', () => {
  it('puts, lists, shows and gets them', async () => {
    const subject = `${server.host}/regctl/all:latest`
    const digest = await putArtifact(subject, 'a report')
    expect(await listArtifacts(subject)).toEqual([{ digest, artifactType }])
    expect(await listArtifacts(subject, '--filter-artifact-type', 'other/type')).toEqual([])
    expect(await regctl('artifact', 'tree', subject)).toContain(digest)
    expect(await regctl('artifact', 'get', '--subject', subject)).toBe('a report')
    // It writes a fallback tag where a registry has no referrers.
    expect(await regctl('tag', 'ls', `${server.host}/regctl/all`)).toBe('latest')
  })

  it('copies them with their subject, also those of its images', async () => {
    const [amd64] = client.layout.images
    const name = `${server.host}/regctl/referred`
    await regctl('image', 'copy', `${server.host}/regctl/all:latest`, `${name}:latest`)
    const ofIndex = await putArtifact(`${name}:latest`, 'of the index')
    const ofImage = await putArtifact(`${name}@${amd64.digest}`, 'of an image')
    const ofReport = await putArtifact(`${name}@${ofImage}`, 'of the report')
    await using other = await startDvcr({ data: join(client.folder, 'other') })
    await withoutTls(other)
    const copy = `${other.host}/copied`
    await regctl('image', 'copy', '--referrers', `${name}:latest`, `${copy}:latest`)
    expect(await fetchIndex(other, 'copied', 'latest')).toEqual(wholeIndex(client.layout))
    const digests = async (reference: string) =>
      (await listArtifacts(`${copy}${reference}`)).map(({ digest }) => digest)
    expect(await digests(':latest')).toEqual([ofIndex])
    expect(await digests(`@${amd64.digest}`)).toEqual([ofImage])
    expect(await digests(`@${ofImage}`)).toEqual([ofReport])
    expect(await regctl('tag', 'ls', copy)).toBe('latest')
  })
})

it('lists and deletes tags and manifests', async () => {
  const name = `${server.host}/regctl/tags`
  for (const tag of ['b', 'a', 'c']) {
    await regctl('image', 'copy', `${server.host}/regctl/all:latest`, `${name}:${tag}`)
  }
  expect((await regctl('tag', 'ls', name)).split('\n')).toEqual(['a', 'b', 'c'])
  const paged = await regctl('tag', 'ls', '--limit', '1', '--last', 'a', name)
  expect(paged.split('\n')).toEqual(['b'])
  await regctl('tag', 'delete', `${name}:b`)
  expect((await regctl('tag', 'ls', name)).split('\n')).toEqual(['a', 'c'])
  await regctl('manifest', 'delete', `${name}@${client.layout.index.digest}`)
  expect(await statusOf(server, 'regctl/tags', 'manifests/a')).toBe(404)
  expect((await regctl('repo', 'ls', server.host)).split('\n')).toContain('regctl/all')
})

it('keeps the bytes of what it exports and imports', async () => {
  const archive = join(client.folder, 'image.tar')
  const [amd64] = client.layout.images
  await regctl('image', 'export', `${server.host}/regctl/all@${amd64.digest}`, archive)
  expect((await readFile(archive)).length).toBeGreaterThan(amd64.disk.length)
  await regctl('image', 'import', `${server.host}/regctl/imported:latest`, archive)
  expect(await statusOf(server, 'regctl/imported', `manifests/${amd64.digest}`)).toBe(200)
})
