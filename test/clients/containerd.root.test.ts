import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startProgram } from '../fixtures/program.ts'
import type { RunningServer } from '../fixtures/servers.ts'
import {
  fetchImage,
  fetchManifest,
  importDisk,
  setUpClient,
  wholeImage,
  type ClientSetup,
  type ImportedDisk,
} from './client-setup.ts'

const snapshotter = ['--snapshotter', 'native'] as const

const stack = new AsyncDisposableStack()
let client: ClientSetup
let server: RunningServer
let imported: ImportedDisk

beforeAll(async () => {
  client = stack.use(await setUpClient())
  server = client.server
  imported = await importDisk(client, 'containerd/disk:1')
  await startContainerd()
})
afterAll(() => stack.disposeAsync())

const at = (part: string): string => join(client.folder, part)
const ctr = (...args: readonly string[]) =>
  client.run('ctr', ['--address', at('containerd.sock'), ...args])

/** A daemon of its own, with nothing that needs a network or other programs. */
async function startContainerd(): Promise<void> {
  const config = [
    'version = 2',
    `root = "${at('root')}"`,
    `state = "${at('state')}"`,
    'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]',
    `[grpc]\naddress = "${at('containerd.sock')}"`,
    `[ttrpc]\naddress = "${at('containerd.ttrpc.sock')}"`,
  ]
  await writeFile(at('config.toml'), config.join('\n'))
  const daemon = stack.use(startProgram('containerd', ['--config', at('config.toml')]))
  const isServing = () =>
    ctr('version').then(
      () => true,
      () => false,
    )
  for (let tries = 0; !(await isServing()); tries++) {
    if (!daemon.isRunning() || tries > 300) throw new Error(`no containerd: ${daemon.output()}`)
    await setTimeout(100)
  }
}

/** The disk in an unpacked image. */
async function readDisk(image: string): Promise<Buffer> {
  const target = at('mounted')
  await mkdir(target, { recursive: true })
  await ctr('images', 'mount', ...snapshotter, image, target)
  try {
    return await readFile(join(target, imported.path))
  } finally {
    await ctr('images', 'unmount', ...snapshotter, target)
  }
}

it('pulls and unpacks an image that dvcr imported, with the disk as it was', async () => {
  const image = `${server.host}/containerd/disk:1`
  await ctr('images', 'pull', '--plain-http', ...snapshotter, image)
  expect((await readDisk(image)).equals(imported.bytes)).toBe(true)
})

it('pulls by digest from us as the mirror of another registry', async () => {
  const { digest } = await fetchManifest(server, 'containerd/disk', '1')
  const hosts = at('hosts/registry.example.org')
  await mkdir(hosts, { recursive: true })
  const mirror = `[host."${server.url}"]\ncapabilities = ["pull", "resolve"]`
  await writeFile(join(hosts, 'hosts.toml'), mirror)
  const image = `registry.example.org/containerd/disk@${digest}`
  await ctr('images', 'pull', '--hosts-dir', at('hosts'), ...snapshotter, image)
  expect((await readDisk(image)).equals(imported.bytes)).toBe(true)
})

it('pushes an image', async () => {
  const [amd64] = client.layout.images
  const archive = at('layout.tar')
  await client.run('tar', ['-c', '-C', client.layout.path, '-f', archive, '.'])
  const name = `${server.host}/containerd/pushed`
  await ctr('images', 'import', '--base-name', name, '--all-platforms', ...snapshotter, archive)
  const options = ['--plain-http', '--platform', 'linux/amd64']
  await ctr('images', 'push', ...options, `${name}:pushed`, `${name}:latest`)
  expect(await fetchImage(server, 'containerd/pushed', amd64.digest)).toEqual(wholeImage(amd64))
})
