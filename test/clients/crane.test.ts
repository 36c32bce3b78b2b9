import { execa } from 'execa'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { digestHex, digestOf } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
import { goTool } from '../fixtures/go-tools.ts'
import { startDockerRegistry, type RunningServer } from '../fixtures/servers.ts'
import {
  fetchImage,
  fetchIndex,
  fetchManifest,
  receivedBytes,
  setUpClient,
  statusOf,
  wholeImage,
  wholeIndex,
  type ClientSetup,
} from './client-setup.ts'

const stack = new AsyncDisposableStack()
let client: ClientSetup
let server: RunningServer
let image: string

beforeAll(async () => {
  client = stack.use(await setUpClient())
  server = client.server
  image = `${server.host}/crane/all`
  await crane('push', '--index', client.layout.path, `${image}:latest`)
})
afterAll(() => stack.disposeAsync())

const crane = (...args: readonly string[]) => client.run(goTool('crane'), args)

it('pushes an index with its images, and says which digest it has', async () => {
  const { layout } = client
  // A layout has an index around what it holds: that is what is pushed.
  const outer = await fetchManifest(server, 'crane/all', 'latest')
  expect(outer.manifests?.map(({ digest }) => digest)).toEqual([layout.index.digest])
  expect(await fetchIndex(server, 'crane/all', layout.index.digest)).toEqual(wholeIndex(layout))
  expect(await crane('digest', `${image}:latest`)).toBe(outer.digest)
  expect(Buffer.from(await crane('manifest', `${image}:latest`))).toEqual(outer.bytes)
  await crane('validate', '--remote', `${image}@${layout.index.digest}`)
})

it('pulls an index with its images, blob by blob the same', async () => {
  const target = join(client.folder, 'pulled')
  await crane('pull', '--format=oci', `${image}@${client.layout.index.digest}`, target)
  const blobs = await readdir(join(target, 'blobs/sha256'))
  const expected = await readdir(join(client.layout.path, 'blobs/sha256'))
  expect(blobs.toSorted()).toEqual(expected.toSorted())
  for (const blob of blobs) {
    const bytes = await readFile(join(target, 'blobs/sha256', blob))
    expect(digestHex(digestOf(bytes))).toBe(blob)
  }
})

it('reads config, blob and file system of the image for a platform', async () => {
  const [, arm64] = client.layout.images
  const ofArm = ['--platform', 'linux/arm64'] as const
  const index = `${image}@${client.layout.index.digest}`
  const config: unknown = JSON.parse(await crane('config', ...ofArm, index))
  expect(config).toMatchObject({ architecture: 'arm64' })
  const exported = join(client.folder, 'exported.tar')
  await crane('export', ...ofArm, index, exported)
  const unpack = ['-x', '-O', '-f', exported, 'disk/x.img']
  const disk = await execa('tar', unpack, { encoding: 'buffer' })
  expect(Buffer.from(disk.stdout).equals(arm64.disk)).toBe(true)
})

it('copies inside the registry by mounting, without sending a blob', async () => {
  const before = await receivedBytes(server)
  await crane('copy', `${image}@${client.layout.index.digest}`, `${server.host}/crane/copied:all`)
  expect(await fetchIndex(server, 'crane/copied', 'all')).toEqual(wholeIndex(client.layout))
  expect(await receivedBytes(server)).toBe(before)
})

it("copies to and from Debian's docker-registry", async () => {
  await using peer = await startDockerRegistry()
  const away = `${peer.host}/away:latest`
  await crane('copy', `${image}@${client.layout.index.digest}`, away)
  await crane('copy', away, `${server.host}/crane/back:latest`)
  expect(await fetchIndex(server, 'crane/back', 'latest')).toEqual(wholeIndex(client.layout))
})

it('appends a layer to an image, and makes an image of a layer alone', async () => {
  const [amd64] = client.layout.images
  const { layerTar } = client.layout
  const base = `${image}@${amd64.digest}`
  await crane('append', '--base', base, '-f', layerTar, '-t', `${server.host}/crane/appended:two`)
  const two = await fetchManifest(server, 'crane/appended', 'two')
  const layers = two.layers?.map(({ digest }) => digest) ?? []
  expect(layers.slice(0, 2)).toEqual(amd64.layers.map(({ digest }) => digest))
  expect(layers).toHaveLength(3)
  await crane('validate', '--remote', `${server.host}/crane/appended:two`)

  await crane('append', '-f', layerTar, '-t', `${server.host}/crane/appended:alone`)
  const alone = await fetchManifest(server, 'crane/appended', 'alone')
  expect(alone.mediaType).toBe(mediaTypes.dockerManifest)
  await crane('validate', '--remote', `${server.host}/crane/appended:alone`)
})

it('makes an index of images', async () => {
  const members = client.layout.images.flatMap(({ digest }) => ['-m', `${image}@${digest}`])
  await crane('index', 'append', ...members, '-t', `${image}:made`)
  const made = await fetchManifest(server, 'crane/all', 'made')
  expect(made.mediaType).toBe(mediaTypes.ociIndex)
  const digests = client.layout.images.map(({ digest }) => digest)
  expect(made.manifests?.map(({ digest }) => digest)).toEqual(digests)
})

it('changes labels of an image and flattens it', async () => {
  const [amd64] = client.layout.images
  const base = `${image}@${amd64.digest}`
  await crane('mutate', base, '--label', 'key=value', '-t', `${server.host}/crane/changed:label`)
  const config: unknown = JSON.parse(await crane('config', `${server.host}/crane/changed:label`))
  expect(config).toMatchObject({ config: { Labels: { key: 'value' } } })
  const changed = `${server.host}/crane/changed`
  await crane('flatten', `${changed}:label`, '-t', `${changed}:flat`)
  expect((await fetchManifest(server, 'crane/changed', 'flat')).layers).toHaveLength(1)
})

it('tags, lists tags and repositories, and deletes', async () => {
  const [amd64] = client.layout.images
  const target = `${server.host}/crane/tags`
  await crane('copy', `${image}@${amd64.digest}`, `${target}:first`)
  for (const tag of ['v1.10', 'v1.9', 'latest']) await crane('tag', `${target}:first`, tag)
  const tags = (await crane('ls', target)).split('\n')
  expect(tags).toEqual(['first', 'latest', 'v1.10', 'v1.9'])
  expect(await fetchImage(server, 'crane/tags', 'v1.9')).toEqual(wholeImage(amd64))
  expect((await crane('catalog', server.host)).split('\n')).toContain('crane/tags')

  await crane('delete', `${target}:v1.10`)
  expect((await crane('ls', target)).split('\n')).toEqual(['first', 'latest', 'v1.9'])
  await crane('delete', `${target}@${amd64.digest}`)
  expect(await statusOf(server, 'crane/tags', 'manifests/latest')).toBe(404)
})
