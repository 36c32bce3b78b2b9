import { randomBytes } from 'node:crypto'
import { glob, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { mediaTypes } from '../../core/manifest.ts'
import type { RunningServer } from '../fixtures/servers.ts'
import { fetchManifest, importDisk, setUpClient, type ClientSetup } from './client-setup.ts'

const stack = new AsyncDisposableStack()
let client: ClientSetup
let server: RunningServer
let disk: Buffer

beforeAll(async () => {
  client = stack.use(await setUpClient())
  server = client.server
  disk = randomBytes(300_000)
  await writeFile(join(client.folder, 'x.img'), disk)
  await writeFile(join(client.folder, 'Dockerfile'), 'FROM scratch\nCOPY x.img /disk/x.img\n')
  await buildah('built', 'bud', '--isolation', 'chroot', '--tag', 'built', '.')
})
afterAll(async () => {
  // A layer's folders can be read-only: without root rights only buildah itself can remove them.
  for (const storage of ['built', 'pulled']) await buildah(storage, 'rmi', '--all', '--force')
  await stack.disposeAsync()
})

/** Runs it on one of its storages, without mounts; works without root rights too. */
function buildah(storage: string, ...args: readonly string[]): Promise<string> {
  const at = (part: string): string => join(client.folder, `buildah-${storage}`, part)
  const options = ['--storage-driver', 'vfs', '--storage-opt', 'vfs.ignore_chown_errors=true']
  return client.run('buildah', ['--root', at('root'), '--runroot', at('run'), ...options, ...args])
}

/** The file at that path in the one layer that has it. */
async function readFromLayers(storage: string, path: string): Promise<Buffer> {
  const layers = join(client.folder, `buildah-${storage}`, 'root/vfs/dir/*', path)
  const found: string[] = []
  for await (const file of glob(layers)) found.push(file)
  expect(found).toHaveLength(1)
  return readFile(found[0] ?? '')
}

it('pushes an image of FROM scratch and COPY x.img, and pulls it with the same file', async () => {
  const image = `docker://${server.host}/buildah/disk:1`
  await buildah('built', 'push', '--tls-verify=false', 'built', image)
  expect((await fetchManifest(server, 'buildah/disk', '1')).layers).toHaveLength(1)
  await buildah('pulled', 'pull', '--tls-verify=false', image)
  expect((await readFromLayers('pulled', 'disk/x.img')).equals(disk)).toBe(true)
})

it('pushes it in the Docker form', async () => {
  const image = `docker://${server.host}/buildah/disk:docker`
  await buildah('built', 'push', '--tls-verify=false', '--format', 'v2s2', 'built', image)
  const { mediaType } = await fetchManifest(server, 'buildah/disk', 'docker')
  expect(mediaType).toBe(mediaTypes.dockerManifest)
})

it('pushes a list of images', async () => {
  await buildah('built', 'manifest', 'create', 'list', 'built')
  const image = `docker://${server.host}/buildah/list:1`
  const push = ['manifest', 'push', '--all', '--tls-verify=false', '--format', 'oci', 'list', image]
  await buildah('built', ...push)
  const list = await fetchManifest(server, 'buildah/list', '1')
  expect([list.mediaType, list.manifests?.length]).toEqual([mediaTypes.ociIndex, 1])
})

it('pulls an image that dvcr imported, with the disk as it was', async () => {
  const imported = await importDisk(client, 'buildah/imported:1')
  await buildah(
    'pulled',
    'pull',
    '--tls-verify=false',
    `docker://${server.host}/buildah/imported:1`,
  )
  const pulled = await readFromLayers('pulled', imported.path)
  expect(pulled.equals(imported.bytes)).toBe(true)
})
