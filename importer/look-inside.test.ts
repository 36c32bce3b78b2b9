import { execa } from 'execa'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, it, test } from 'vitest'
import { z } from 'zod'
import type { ImportEvent } from '../core/report.ts'
import { createClusterPool, type ClusterPool } from '../converter/cluster-pool.ts'
import { parseManifest } from '../core/manifest.ts'
import { collect } from '../test/fixtures/chunks.ts'
import {
  debianFiles,
  elfHeader,
  makeDisk,
  makeExt,
  makeFat,
  makePartitioned,
  mib,
  peHeader,
} from '../test/fixtures/made-disks.ts'
import { smallDisk } from '../test/fixtures/queue-setup.ts'
import { openTempStore, type TempStore } from '../test/fixtures/temp-store.ts'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { createImages } from './images.ts'
import type { ImportRequest } from './import-request.ts'
import { chooseArchitecture, lookInside } from './look-inside.ts'
import { importImage } from './pipeline.ts'
import { openStreamSource } from './sources/file-source.ts'

const signal = new AbortController().signal
const owned = new AsyncDisposableStack()
let clusterPool: ClusterPool
let store: TempStore
let folder: string
let disk: Buffer

beforeAll(async () => {
  clusterPool = owned.use(createClusterPool({ threads: 1 }))
  store = owned.use(await openTempStore())
  folder = owned.use(await createTempFolder()).path
  const system = { ...debianFiles, 'usr/bin/dash': elfHeader(183, 64, 'little') }
  const table = 'label: gpt\nstart=2048, size=32768, type=uefi\nstart=36864, size=24576, type=linux'
  disk = await makePartitioned(
    table,
    [
      [mib, await makeFat({ 'EFI/BOOT/BOOTAA64.EFI': peHeader(0xaa64) })],
      [18 * mib, await makeExt(system, '-t ext4', 12 * mib)],
    ],
    32 * mib,
  )
  await writeFile(join(folder, 'disk'), disk)
})
afterAll(() => owned.disposeAsync())

async function run(bytes: Uint8Array, change: Partial<ImportRequest> & { tag: string }) {
  const events: ImportEvent[] = []
  async function* body(): AsyncGenerator<Uint8Array, void> {
    yield bytes
  }
  const imported = await importImage(
    {
      openSource: async () => ({
        ...openStreamSource('disk', body()),
        length: bytes.length,
        pin: '"v1"',
      }),
      name: 'a',
      replace: true,
      checksums: {},
      store: 'auto',
      ...change,
    },
    { ...store, clusterPool, scratchFolder: folder, maxVirtualSize: 64 * mib },
    { signal, report: (event) => events.push(event) },
  )
  const reference = { kind: 'tag', tag: change.tag } as const
  const record = await createImages(store.registry).get({ name: 'a', reference })
  const repository = store.registry.repository('a')
  const manifest = await repository.manifests.get(reference)
  const { config } = parseManifest(manifest?.mediaType ?? '', manifest?.bytes ?? Buffer.of())
  const json = config && (await collect(repository.blobs.read(config.digest, { signal })))
  const { architecture } = z
    .looseObject({ architecture: z.string() })
    .parse(JSON.parse(json?.toString() ?? ''))
  const warnings = events.filter(({ type }) => type === 'warning')
  return { imported, record, architecture, warnings }
}

async function converted(options: readonly string[]): Promise<Buffer> {
  const path = join(folder, 'converted')
  await execa('qemu-img', ['convert', '-f', 'raw', ...options, join(folder, 'disk'), path])
  return readFile(path)
}

const found = {
  architecture: 'arm64',
  sourceValidator: '"v1"',
  contents: {
    partitionTable: 'gpt',
    firmware: ['uefi'],
    volumes: [
      { partition: 1, type: 'esp', start: mib, size: 16 * mib, fileSystem: 'vfat', label: 'ESP' },
      { partition: 2, type: 'linux', start: 18 * mib, fileSystem: 'ext4', label: 'root' },
    ],
    os: { id: 'debian', version: '12', name: 'Debian GNU/Linux 12 (bookworm)' },
    cloudInit: true,
  },
}

it.each([
  ['raw', async () => disk, 'auto'],
  ['raw-as-it-is', async () => disk, 'as-is'],
  ['gzip-as-it-is', async () => gzipSync(disk, { level: 1 }), 'as-is'],
  ['qcow2', () => converted(['-O', 'qcow2']), 'auto'],
  ['packed-qcow2', () => converted(['-O', 'qcow2', '-c']), 'auto'],
  ['vmdk', () => converted(['-O', 'vmdk']), 'auto'],
] as const)('what is on a disk that comes as %s is told', async (tag, bytes, mode) => {
  const { imported, record, architecture, warnings } = await run(await bytes(), {
    tag,
    store: mode,
  })
  expect(record).toMatchObject(found)
  expect([imported.architecture, architecture]).toEqual(['arm64', 'arm64'])
  expect(warnings).toHaveLength(mode === 'auto' ? 0 : 1)
})

it('of a CD too', async () => {
  const iso = await makeDisk('rm "$disk"; xorriso -as mkisofs -quiet -R -o "$disk" "$tree"', {
    files: {
      '.disk/info': 'Ubuntu-Server 24.04.1 LTS "Noble Numbat" - Release riscv64 (20240827)',
    },
  })
  const { record, architecture } = await run(iso, { tag: 'cd' })
  expect(record).toMatchObject({ storedFormat: 'iso', architecture: 'riscv64' })
  expect(record.contents?.os).toMatchObject({ id: 'ubuntu', version: '24.04.1' })
  expect(architecture).toBe('riscv64')
})

it('what was asked for wins, and is warned about where the disk is for another machine', async () => {
  const other = await run(disk, { tag: 'other', architecture: 's390x' })
  expect([other.record.architecture, other.architecture]).toEqual(['s390x', 's390x'])
  expect(other.warnings).toEqual([
    { type: 'warning', message: expect.stringMatching(/ arm64, not for s390x /) },
  ])
  const same = await run(disk, { tag: 'same', architecture: 'arm64' })
  expect(same.warnings).toEqual([])
})

it('a disk that nothing is known of is for amd64, which its annotations do not claim', async () => {
  const { imported, record, architecture } = await run(smallDisk, { tag: 'small' })
  expect(architecture).toBe('amd64')
  expect([imported.architecture, record.architecture]).toEqual([undefined, undefined])
})

test('a layer that cannot be read back is one of which nothing is known', async () => {
  const layer = { readFile: () => Promise.reject(new Error('gone')) }
  for (const storedFormat of ['qcow2', 'raw'] as const) {
    const packed = { layer, plan: { storedFormat }, virtualSize: mib }
    expect(await lookInside(packed)).toMatchObject({ partitionTable: undefined, volumes: [] })
  }
})

test.each([
  [undefined, undefined, undefined, false],
  ['arm64', undefined, 'arm64', false],
  [undefined, 'arm64', 'arm64', false],
  ['arm64', 'arm64', 'arm64', false],
  ['amd64', 'arm64', 'amd64', true],
])('asked for %s, found %s: %s', (asked, there, architecture, isWarned) => {
  const chosen = chooseArchitecture(asked, there)
  expect([chosen.architecture, chosen.warning !== undefined]).toEqual([architecture, isWarned])
})
