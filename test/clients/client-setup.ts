import { execa } from 'execa'
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { z } from 'zod'
import { digestOf } from '../../core/digest.ts'
import { mediaTypes } from '../../core/manifest.ts'
import { writeOciLayout, type OciLayout } from '../fixtures/oci-layout.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'

const dvcrProgram = join(import.meta.dirname, '../../bin/dvcr')

/** A registry of ours, and images on disk that a client can push to it. */
export interface ClientSetup extends AsyncDisposable {
  readonly server: RunningServer
  /** For the client's files. */
  readonly folder: string
  readonly layout: OciLayout
  /** Runs a client and answers what it printed; fails with all of its output. */
  run(program: string, args: readonly string[], env?: Record<string, string>): Promise<string>
}

export async function setUpClient(): Promise<ClientSetup> {
  await using owned = new AsyncDisposableStack()
  const folder = owned.use(await createTempFolder()).path
  const layout = await writeOciLayout(folder)
  const server = owned.use(await startDvcr({ data: join(folder, 'data') }))
  const stack = owned.move()
  return {
    server,
    folder,
    layout,
    async run(program, args, env = {}) {
      const command = await execa(program, args, { cwd: folder, env, stdin: 'ignore' })
      return command.stdout
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

/** A disk that `dvcr import` has stored as it is. */
export interface ImportedDisk {
  readonly bytes: Buffer
  /** In the layer of the image. */
  readonly path: string
}

/** Imports a qcow2 disk into the registry as `name:tag`. */
export async function importDisk(
  { server, folder, run }: ClientSetup,
  image: string,
): Promise<ImportedDisk> {
  const raw = join(folder, 'disk.raw')
  const qcow2 = join(folder, 'disk.qcow2')
  await writeFile(raw, Buffer.concat([randomBytes(1_000_000), Buffer.alloc(3_000_000)]))
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2])
  await run(dvcrProgram, ['import', qcow2, image, '--server', server.url])
  return { bytes: await readFile(qcow2), path: 'disk/disk.qcow2' }
}

const descriptor = z.looseObject({ mediaType: z.string(), digest: z.string(), size: z.number() })
const manifest = z.looseObject({
  config: descriptor.optional(),
  layers: z.array(descriptor).optional(),
  manifests: z.array(descriptor).optional(),
})

/** What the registry answers for a tag or digest; fails the test where it has another digest. */
export async function fetchManifest(
  { url }: Pick<RunningServer, 'url'>,
  name: string,
  reference: string,
) {
  const accept = Object.values(mediaTypes).join(', ')
  const path = `${url}/v2/${name}/manifests/${reference}`
  const response = await fetch(path, { headers: { accept } })
  expect([reference, response.status]).toEqual([reference, 200])
  const bytes = Buffer.from(await response.arrayBuffer())
  const digest = digestOf(bytes)
  expect(response.headers.get('docker-content-digest')).toBe(digest)
  const mediaType = response.headers.get('content-type')
  return { digest, mediaType, bytes, ...manifest.parse(JSON.parse(bytes.toString())) }
}

/** Status of a manifest or blob: `manifests/latest`, `blobs/sha256:…`. */
export async function statusOf({ url }: RunningServer, name: string, what: string) {
  return (await fetch(`${url}/v2/${name}/${what}`, { method: 'HEAD' })).status
}

/** What a registry has of an image: the manifest, its config and layers, by what was read. */
export interface StoredImage {
  readonly digest: string
  readonly blobs: readonly { readonly digest: string; readonly size: number }[]
}

/** What it has of an index, and of the images in it. */
export interface StoredIndex {
  readonly digest: string
  readonly images: readonly StoredImage[]
}

export async function fetchIndex(
  server: RunningServer,
  name: string,
  reference: string,
): Promise<StoredIndex> {
  const { digest, manifests = [] } = await fetchManifest(server, name, reference)
  const images: StoredImage[] = []
  for (const image of manifests) images.push(await fetchImage(server, name, image.digest))
  return { digest, images }
}

export async function fetchImage(
  server: RunningServer,
  name: string,
  reference: string,
): Promise<StoredImage> {
  const { digest, config, layers = [] } = await fetchManifest(server, name, reference)
  const blobs = []
  for (const named of config ? [config, ...layers] : layers) {
    const response = await fetch(`${server.url}/v2/${name}/blobs/${named.digest}`)
    const bytes = Buffer.from(await response.arrayBuffer())
    blobs.push({ digest: digestOf(bytes), size: bytes.length })
  }
  return { digest, blobs }
}

/** What `fetchIndex` finds where all of the layout was pushed as it is. */
export function wholeIndex({ index, images }: OciLayout): StoredIndex {
  return { digest: index.digest, images: images.map(wholeImage) }
}

/** What `fetchImage` finds where the image was pushed as it is. */
export function wholeImage({ digest, config, layers }: OciLayout['images'][0]): StoredImage {
  return { digest, blobs: [config, ...layers].map(({ digest, size }) => ({ digest, size })) }
}

/** Bytes of blobs that clients have sent so far. */
export async function receivedBytes({ url }: RunningServer): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text()
  return Number(/^dvcr_blob_bytes_total\{direction="in"\} (\S+)$/m.exec(metrics)?.[1] ?? 0)
}
