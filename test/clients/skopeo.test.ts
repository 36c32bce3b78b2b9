import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestHex } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
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
let source: string

beforeAll(async () => {
  client = stack.use(await setUpClient())
  server = client.server
  source = `oci:${client.layout.path}:latest`
  await copy('--all', '--preserve-digests', source, `docker://${server.host}/skopeo/all:latest`)
})
afterAll(() => stack.disposeAsync())

const plainHttp = ['--src-tls-verify=false', '--dest-tls-verify=false']
const copy = (...args: readonly string[]) =>
  client.run('skopeo', ['--insecure-policy', 'copy', '--quiet', ...plainHttp, ...args])

it('pushes an index with its images, and inspects it', async () => {
  const { layout } = client
  expect(await fetchIndex(server, 'skopeo/all', 'latest')).toEqual(wholeIndex(layout))
  const image = `docker://${server.host}/skopeo/all:latest`
  const raw = await client.run('skopeo', ['inspect', '--tls-verify=false', '--raw', image])
  expect(Buffer.from(raw)).toEqual((await fetchManifest(server, 'skopeo/all', 'latest')).bytes)
  const inspected: unknown = JSON.parse(
    await client.run('skopeo', ['--override-arch=arm64', 'inspect', '--tls-verify=false', image]),
  )
  expect(inspected).toMatchObject({
    Name: `${server.host}/skopeo/all`,
    Digest: layout.index.digest,
    Architecture: 'arm64',
    Layers: layout.images[1].layers.map(({ digest }) => digest),
  })
})

it('pulls an index with its images, blob by blob the same', async () => {
  const target = join(client.folder, 'pulled-all')
  await copy(
    '--all',
    '--preserve-digests',
    `docker://${server.host}/skopeo/all:latest`,
    `oci:${target}:latest`,
  )
  const blobs = await readdir(join(target, 'blobs/sha256'))
  const expected = await readdir(join(client.layout.path, 'blobs/sha256'))
  expect(blobs.toSorted()).toEqual(expected.toSorted())
  for (const { layers } of client.layout.images) {
    for (const { digest } of layers) {
      const path = join('blobs/sha256', digestHex(digest))
      expect(await readFile(join(target, path))).toEqual(
        await readFile(join(client.layout.path, path)),
      )
    }
  }
})

it('pushes the one image for its platform', async () => {
  await copy(source, `docker://${server.host}/skopeo/one:latest`)
  const [amd64] = client.layout.images
  expect(await fetchImage(server, 'skopeo/one', 'latest')).toEqual(wholeImage(amd64))
  expect((await fetchManifest(server, 'skopeo/one', 'latest')).digest).toBe(amd64.digest)
})

it('copies inside the registry by mounting, without sending a layer', async () => {
  const before = await receivedBytes(server)
  const from = `docker://${server.host}/skopeo/all:latest`
  await copy('--all', '--preserve-digests', from, `docker://${server.host}/skopeo/mounted:copy`)
  expect(await fetchIndex(server, 'skopeo/mounted', 'copy')).toEqual(wholeIndex(client.layout))
  const configs = client.layout.images.reduce((sum, { config }) => sum + config.size, 0)
  expect((await receivedBytes(server)) - before).toBeLessThanOrEqual(configs)
})

describe('in the Docker forms', () => {
  it('pushes, inspects and pulls an image', async () => {
    const image = `docker://${server.host}/skopeo/docker:v2s2`
    await copy('--format', 'v2s2', source, image)
    const stored = await fetchManifest(server, 'skopeo/docker', 'v2s2')
    expect(stored.mediaType).toBe(mediaTypes.dockerManifest)
    const [amd64] = client.layout.images
    expect(stored.layers?.map(({ digest }) => digest)).toEqual(
      amd64.layers.map(({ digest }) => digest),
    )
    const target = join(client.folder, 'pulled-v2s2')
    await copy(image, `dir:${target}`)
    expect(await readFile(join(target, 'manifest.json'))).toEqual(stored.bytes)
  })

  it('pushes and pulls a manifest list', async () => {
    const image = `docker://${server.host}/skopeo/docker:list`
    await copy('--all', '--format', 'v2s2', source, image)
    const list = await fetchManifest(server, 'skopeo/docker', 'list')
    expect(list.mediaType).toBe(mediaTypes.dockerList)
    expect(list.manifests?.map(({ mediaType }) => mediaType)).toEqual([
      mediaTypes.dockerManifest,
      mediaTypes.dockerManifest,
    ])
    const target = join(client.folder, 'pulled-list')
    await copy('--all', '--preserve-digests', image, `dir:${target}`)
    expect(await readFile(join(target, 'manifest.json'))).toEqual(list.bytes)
  })
})

describe("with Debian's docker-registry", () => {
  it('copies an index there and back', async () => {
    await using peer = await startDockerRegistry()
    const away = `docker://${peer.host}/away:latest`
    const ours = `docker://${server.host}/skopeo/back:latest`
    const from = `docker://${server.host}/skopeo/all:latest`
    await copy('--all', '--preserve-digests', from, away)
    await copy('--all', '--preserve-digests', away, ours)
    expect(await fetchIndex(server, 'skopeo/back', 'latest')).toEqual(wholeIndex(client.layout))
  })

  it('copies a Docker manifest list there and back', async () => {
    await using peer = await startDockerRegistry()
    const away = `docker://${peer.host}/away:list`
    await copy('--all', '--format', 'v2s2', source, away)
    await copy('--all', '--preserve-digests', away, `docker://${server.host}/skopeo/back:list`)
    const list = await fetchManifest(server, 'skopeo/back', 'list')
    expect(list.digest).toBe((await fetchManifest(peer, 'away', 'list')).digest)
  })
})

it('lists tags and deletes', async () => {
  const image = `docker://${server.host}/skopeo/deleted`
  for (const tag of ['one', 'two', 'three']) await copy(source, `${image}:${tag}`)
  const list = async (): Promise<unknown> => {
    const listed = await client.run('skopeo', ['list-tags', '--tls-verify=false', image])
    return Object(JSON.parse(listed)).Tags
  }
  expect(await list()).toEqual(['one', 'three', 'two'])
  await client.run('skopeo', ['delete', '--tls-verify=false', `${image}:one`])
  // It deletes what the tag points to, and so every tag of it.
  expect(await statusOf(server, 'skopeo/deleted', 'manifests/three')).toBe(404)
})

describe('sync', () => {
  const sync = (...args: readonly string[]) =>
    client.run('skopeo', ['--insecure-policy', 'sync', ...plainHttp, '--all', ...args])

  it('brings all tags of a repository into a folder and from there into another', async () => {
    const { layout, folder } = client
    for (const tag of ['a', 'b']) {
      await copy(
        '--all',
        '--preserve-digests',
        source,
        `docker://${server.host}/skopeo/synced:${tag}`,
      )
    }
    const dir = join(folder, 'synced')
    await sync('--src', 'docker', '--dest', 'dir', `${server.host}/skopeo/synced`, dir)
    expect((await readdir(dir)).toSorted()).toEqual(['synced:a', 'synced:b'])
    await sync('--src', 'dir', '--dest', 'docker', dir, `${server.host}/skopeo/again`)
    for (const tag of ['a', 'b'])
      expect(await fetchIndex(server, 'skopeo/again/synced', tag)).toEqual(wholeIndex(layout))
  })

  it('brings all tags of a repository from one registry into another', async () => {
    await using peer = await startDockerRegistry()
    await copy('--all', '--preserve-digests', source, `docker://${peer.host}/theirs:x`)
    await sync(
      '--src',
      'docker',
      '--dest',
      'docker',
      `${peer.host}/theirs`,
      `${server.host}/skopeo`,
    )
    expect(await fetchIndex(server, 'skopeo/theirs', 'x')).toEqual(wholeIndex(client.layout))
  })
})
