import { execa } from 'execa'
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { CodedError } from '../core/errors.ts'
import { mediaTypes } from '../core/manifest.ts'
import { parseReference } from '../core/reference.ts'
import type { Repository } from '../core/registry.ts'
import { createClusterPool, type ClusterPool } from '../converter/cluster-pool.ts'
import { chunkRecord, contentDigestOf } from '../converter/content-digest.ts'
import { bootSectorDisk } from '../test/fixtures/boot-sector.ts'
import { noise } from '../test/fixtures/chunks.ts'
import { refusalIn } from '../test/fixtures/refusal.ts'
import { tarOf } from '../test/fixtures/tars.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { openTempStore, type TempStore } from '../test/fixtures/temp-store.ts'
import { readImageContent } from './image-content.ts'
import { importImage } from './pipeline.ts'
import { openStreamSource } from './sources/file-source.ts'
import type { ImageReader } from './sources/image-source.ts'

const mib = 1024 * 1024
const signal = new AbortController().signal
const disk = bootSectorDisk({ size: 20 * mib })
disk.set(noise(9 * mib), 3 * mib)

const owned = new AsyncDisposableStack()
let clusterPool: ClusterPool
let store: TempStore
let folder: string
let repository: Repository

beforeAll(async () => {
  clusterPool = owned.use(createClusterPool({ threads: 1 }))
  store = owned.use(await openTempStore())
  folder = owned.use(await createTempFolder()).path
  repository = store.registry.repository('a')
  await writeFile(join(folder, 'disk'), disk)
})
afterAll(() => owned.disposeAsync())

async function push(layers: readonly Buffer[], tag: string): Promise<void> {
  const descriptors = []
  for (const bytes of [Buffer.from('{}'), ...layers]) {
    const blob = await repository.blobs.create({ signal })
    await blob.write(bytes)
    const { digest, size } = await blob.finish()
    await blob.commit()
    descriptors.push({ mediaType: mediaTypes.ociLayer, digest, size })
  }
  const [config, ...rest] = descriptors
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: { ...config, mediaType: mediaTypes.ociConfig },
    layers: rest,
  }
  const bytes = Buffer.from(JSON.stringify(manifest))
  await repository.manifests.put(
    { mediaType: mediaTypes.ociManifest, bytes },
    { tag, replace: true },
  )
}

async function importAs(bytes: Uint8Array, tag: string, mode: 'auto' | 'as-is') {
  async function* body(): AsyncGenerator<Uint8Array, void> {
    yield bytes
  }
  return importImage(
    {
      openSource: async () => openStreamSource('disk', body()),
      name: 'a',
      tag,
      replace: true,
      store: mode,
      checksums: {},
    },
    { ...store, clusterPool, scratchFolder: folder, maxVirtualSize: 64 * mib },
    { signal, report: () => {} },
  )
}

function contentOf(
  tag: string,
  reader: ImageReader = repository,
  onBytes: (bytes: number) => void = () => {},
) {
  return readImageContent(reader, {
    label: `a:${tag}`,
    reference: parseReference(tag),
    hashPool: store.hashPool,
    clusterPool,
    scratchFolder: folder,
    maxVirtualSize: 64 * mib,
    retryDelaysMs: [1],
    signal,
    onBytes,
  })
}

async function converted(...options: readonly string[]): Promise<Buffer> {
  const path = join(folder, 'converted')
  await execa('qemu-img', ['convert', '-f', 'raw', ...options, join(folder, 'disk'), path])
  return readFile(path)
}

it('is one for a disk in all the ways that it can be stored', async () => {
  const { contentDigest, virtualSize } = await importAs(disk, 'ours', 'auto')
  await importAs(disk, 'raw', 'as-is')
  const files = {
    qcow2: await converted('-O', 'qcow2'),
    'small-clusters': await converted('-O', 'qcow2', '-o', 'cluster_size=512'),
    packed: await converted('-O', 'qcow2', '-c'),
    'out-of-order': await converted('-O', 'qcow2', '-W'),
    vmdk: await converted('-O', 'vmdk'),
  }
  for (const [tag, bytes] of Object.entries(files)) {
    await push([await tarOf([{ name: 'disk/' }, { name: 'disk/x', contents: bytes }])], tag)
  }
  await importAs(files.packed, 'packed-by-us', 'auto')
  await push([gzipSync(files.qcow2, { level: 1 })], 'artifact')
  const tags = ['ours', 'raw', ...Object.keys(files), 'packed-by-us', 'artifact']
  for (const tag of tags) {
    expect([tag, await contentOf(tag)]).toMatchObject([tag, { contentDigest, virtualSize }])
  }
})

it('of a CD is that of the same bytes as a disk', async () => {
  const iso = Buffer.concat([disk.subarray(0, 32 * 1024), Buffer.alloc(mib)])
  iso.write('\x01CD001\x01', 32 * 1024, 'latin1')
  iso.writeUInt16LE(2048, 32 * 1024 + 128)
  await importAs(iso, 'iso', 'auto')
  const found = await contentOf('iso')
  const sha256 = createHash('sha256').update(iso).digest()
  async function* records(): AsyncGenerator<Uint8Array, void> {
    yield chunkRecord(0, sha256)
  }
  const contentDigest = await contentDigestOf(iso.length, records())
  expect(found).toEqual({ format: 'iso', virtualSize: iso.length, contentDigest })
})

it('goes on where connections break, and counts every byte once', async () => {
  const { contentDigest, storedSize } = await importAs(disk, 'broken', 'auto')
  const starts: number[] = []
  const reader: ImageReader = {
    manifests: repository.manifests,
    blobs: {
      async *read(digest, options) {
        starts.push(options.range?.start ?? 0)
        let bytes = 0
        for await (const chunk of repository.blobs.read(digest, options)) {
          yield chunk
          bytes += chunk.length
          if (bytes > 3 * mib) throw new CodedError('TARGET_UNAVAILABLE', 'broken')
        }
      },
    },
  }
  let counted = 0
  const found = await contentOf('broken', reader, (bytes) => (counted += bytes))
  expect(found.contentDigest).toBe(contentDigest)
  expect(counted).toBe(storedSize)
  expect(starts.length).toBeGreaterThan(2)
  expect(starts).toEqual(starts.toSorted((a, b) => a - b))
})

it('is not told of bytes that are not those of the layer', async () => {
  await importAs(disk, 'damaged', 'as-is')
  const reader: ImageReader = {
    manifests: repository.manifests,
    blobs: {
      async *read(digest, options) {
        let position = 0
        for await (const chunk of repository.blobs.read(digest, options)) {
          const changed = Buffer.from(chunk)
          const at = 5 * mib - position
          if (at >= 0 && at < changed.length) changed[at] = (changed[at] ?? 0) ^ 1
          position += chunk.length
          yield changed
        }
      },
    },
  }
  expect(await refusalIn(contentOf('damaged', reader))).toBe('CHECKSUM_MISMATCH')
})

it.each([
  ['no disk', async () => [await tarOf([{ name: 'etc/x', contents: 'x' }])], 'SOURCE_NOT_FOUND'],
  ['no image of a disk', async () => [Buffer.from('<html></html>')], 'FORMAT_UNKNOWN'],
  ['a disk that is too large', () => huge(), 'SIZE_EXCEEDED'],
] as const)('%s is refused with its code', async (_what, layers, code) => {
  await push(await layers(), 'refused')
  expect(await refusalIn(contentOf('refused'))).toBe(code)
})

async function huge(): Promise<Buffer[]> {
  const path = join(folder, 'huge')
  await execa('qemu-img', ['create', '-f', 'qcow2', path, '1T'])
  return [await tarOf([{ name: 'disk/x', contents: await readFile(path) }])]
}
