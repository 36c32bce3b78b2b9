import { execa } from 'execa'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { expect } from 'vitest'
import { z } from 'zod'
import { digestHex, parseDigest } from '../../core/digest.ts'
import { parseManifest } from '../../core/manifest.ts'
import type { RunningServer } from '../fixtures/servers.ts'

const indexSchema = z.object({
  manifests: z.tuple([z.object({ mediaType: z.string(), digest: z.string() })]),
})
const configSchema = z.object({
  os: z.literal('linux'),
  config: z.object({ Labels: z.record(z.string(), z.string()) }),
  rootfs: z.object({ diff_ids: z.array(z.string()) }),
})

/** An image as skopeo pulled it and GNU tar unpacked it. */
export interface PulledImage {
  readonly manifestDigest: string
  readonly annotations: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly layerDigest: string
  readonly layerPath: string
  /** The file in the layer. */
  readonly diskPath: string
}

/**
 * Pulls `name:tag` by skopeo into `folder` and unpacks it by GNU tar. Fails the test unless the
 * layer has its digest and holds exactly `disk/` and `disk/<fileName>`.
 */
export async function pullImage(
  { host }: Pick<RunningServer, 'host'>,
  image: string,
  { folder, fileName = 'disk.qcow2' }: { readonly folder: string; readonly fileName?: string },
): Promise<PulledImage> {
  const layout = join(folder, 'oci')
  const from = `docker://${host}/${image}`
  const options = ['--src-tls-verify=false', '--preserve-digests', '--quiet', '--insecure-policy']
  await execa('skopeo', ['copy', ...options, from, `oci:${layout}:pulled`])
  const blobPath = (digest: string) => join(layout, 'blobs/sha256', digestHex(parseDigest(digest)))
  const readBlob = (digest: string) => readFile(blobPath(digest))

  const index = indexSchema.parse(JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')))
  const [{ mediaType, digest: manifestDigest }] = index.manifests
  const manifest = parseManifest(mediaType, await readBlob(manifestDigest))
  const [layer, ...more] = manifest.layers ?? []
  if (!layer || !manifest.config) throw new Error(`${image} has no layer or config`)
  expect(more).toEqual([])
  const config = configSchema.parse(JSON.parse((await readBlob(manifest.config.digest)).toString()))
  expect(config.rootfs.diff_ids).toEqual([layer.digest])
  const layerPath = blobPath(layer.digest)
  expect(`sha256:${await sha256OfFile(layerPath)}`).toBe(layer.digest)

  const diskPath = join(folder, 'disk', fileName)
  await unpack(layerPath, { folder, fileName })
  return {
    manifestDigest,
    annotations: manifest.annotations ?? {},
    labels: config.config.Labels,
    layerDigest: layer.digest,
    layerPath,
    diskPath,
  }
}

async function unpack(
  layerPath: string,
  { folder, fileName }: { readonly folder: string; readonly fileName: string },
): Promise<void> {
  const listed = await execa('tar', ['-tv', '--numeric-owner', '--utc', '-f', layerPath])
  const entries = listed.stdout.split('\n').map((line) => line.split(/\s+/))
  const withoutSize = entries.map(([mode, owner, _size, ...rest]) => [mode, owner, ...rest])
  expect(withoutSize).toEqual([
    ['drwxr-xr-x', '107/107', '1970-01-01', '00:00', 'disk/'],
    ['-rw-r--r--', '107/107', '1970-01-01', '00:00', `disk/${fileName}`],
  ])
  await mkdir(folder, { recursive: true })
  await execa('tar', ['-x', '--no-same-owner', '-f', layerPath, '-C', folder])
}

/** Lower-case hex. */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash)
  return hash.digest('hex')
}

/** The chunk list that an image must have, computed from its layer (`docs/stored-image.md`). */
export async function expectedChunkList(layerPath: string): Promise<Buffer> {
  const chunkBytes = 4 * 1024 * 1024
  await using file = await open(layerPath)
  const { size } = await file.stat()
  const head = Buffer.alloc(24)
  head.write('DVCRCHK1', 'latin1')
  head.writeBigUInt64BE(BigInt(chunkBytes), 8)
  head.writeBigUInt64BE(BigInt(size), 16)
  const parts = [head]
  const chunk = Buffer.alloc(chunkBytes)
  for (let offset = 0; offset < size; offset += chunkBytes) {
    const { bytesRead } = await file.read(chunk, 0, chunkBytes, offset)
    parts.push(createHash('sha256').update(chunk.subarray(0, bytesRead)).digest())
  }
  return Buffer.concat(parts)
}

/** The chunk list that the image's config names. */
export async function fetchChunkList(
  { url }: Pick<RunningServer, 'url'>,
  name: string,
  { labels }: Pick<PulledImage, 'labels'>,
): Promise<Buffer> {
  const response = await fetch(`${url}/v2/${name}/blobs/${labels['io.dvcr.chunks']}`)
  expect(response.status).toBe(200)
  return Buffer.from(await response.arrayBuffer())
}

/** Fails the test unless `qemu-img` finds the qcow2 clean and its contents those of `rawPath`. */
export async function expectSameDisk(qcow2Path: string, rawPath: string): Promise<void> {
  const check = await execa('qemu-img', ['check', '-f', 'qcow2', qcow2Path], { reject: false })
  expect(check.stdout).toContain('No errors were found on the image.')
  expect(check.exitCode).toBe(0)
  const compare = ['compare', '-f', 'raw', '-F', 'qcow2', rawPath, qcow2Path]
  const compared = await execa('qemu-img', compare, { reject: false })
  expect(compared.stdout).toBe('Images are identical.')
}
