import { execa } from 'execa'
import { createReadStream, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createClusterPool } from '../../converter/cluster-pool.ts'
import { createHashPool } from '../../core/hash-pool.ts'
import { createHttpClient } from '../../core/http-client.ts'
import { mediaTypes } from '../../core/manifest.ts'
import { createRegistryClient } from '../../core/registry-client.ts'
import { readImageContent } from '../../importer/image-content.ts'
import type { ImportRecord } from '../../importer/import-record.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { listenOnLoopback } from '../fixtures/ports.ts'
import { pushArtifact } from '../fixtures/pushed-artifact.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { tarOf } from '../fixtures/tars.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { dvcr } from './dvcr-command.ts'
import { createImportsApi } from './imports-api.ts'
import { isNightly } from './nightly.ts'
import { printedImport } from './printed-import.ts'
import { sha256OfFile } from './pulled-image.ts'

const MiB = 1024 * 1024
const diskBytes = 12 * MiB

const qemu = (options: string) => `qemu-img convert -f raw ${options} disk.raw "$1"`

interface Making {
  readonly make: string
  readonly copied?: boolean
}

/** How each disk is made in the folder of `disk.raw`; those that say so are stored as they came. */
const formats: Readonly<Record<string, Making>> = {
  raw: { make: 'cp disk.raw "$1"' },
  'qcow2-512': { make: qemu('-O qcow2 -o cluster_size=512'), copied: true },
  'qcow2-4k': { make: qemu('-O qcow2 -o cluster_size=4k'), copied: true },
  'qcow2-64k': { make: qemu('-O qcow2'), copied: true },
  'qcow2-2m': { make: qemu('-O qcow2 -o cluster_size=2M'), copied: true },
  'qcow2-zlib': { make: qemu('-O qcow2 -c -o compression_type=zlib'), copied: true },
  'qcow2-zstd': { make: qemu('-O qcow2 -c -o compression_type=zstd'), copied: true },
  'qcow2-v2': { make: qemu('-O qcow2 -o compat=0.10'), copied: true },
  'qcow2-extended': { make: qemu('-O qcow2 -o extended_l2=on') },
  'qcow2-out-of-order': { make: qemu('-W -m 16 -O qcow2'), copied: true },
  'qcow2-rewritten': {
    make: `${qemu('-O qcow2 -c')} && qemu-io -f qcow2 -c "write -P 7 1M 2M" -c "discard 4M 1M" "$1" && qemu-img snapshot -c one "$1" && dd if=disk.raw of=part bs=1M skip=1 count=4 status=none && qemu-io -f qcow2 -c "write -s part 1M 4M" "$1"`,
  },
  'vmdk-sparse': { make: qemu('-O vmdk') },
  'vmdk-stream': { make: qemu('-O vmdk -o subformat=streamOptimized') },
  vdi: { make: qemu('-O vdi') },
  'vdi-static': { make: qemu('-O vdi -o static=on') },
  vhd: { make: qemu('-O vpc -o force_size=on') },
  'vhd-fixed': { make: qemu('-O vpc -o subformat=fixed,force_size=on') },
  vhdx: { make: qemu('-O vhdx') },
  'vhdx-fixed': { make: qemu('-O vhdx -o subformat=fixed') },
}

const wraps: Readonly<Record<string, string>> = {
  plain: 'cp "$1" "$2"',
  gz: 'gzip -1 -c "$1" >"$2"',
  xz: 'xz -0 -c "$1" >"$2"',
  zst: 'zstd -q -1 -c "$1" >"$2"',
  bz2: 'bzip2 -1 -c "$1" >"$2"',
}

const ways = ['file', 'http with ranges', 'http without', 'container image'] as const

interface Row {
  readonly format: string
  readonly wrap: string
  readonly way: (typeof ways)[number]
}

/** Every combination at night; by day each pair of two of the three. */
const rows = Object.keys(formats).flatMap((format, at): Row[] =>
  Object.keys(wraps).flatMap((wrap, turn) =>
    ways
      .filter((_, index) => isNightly || index === (at + turn) % ways.length)
      .map((way) => ({ format, wrap, way })),
  ),
)

const owned = new AsyncDisposableStack()
const hashPool = owned.use(createHashPool({ threads: 1 }))
const clusterPool = owned.use(createClusterPool({ threads: 1 }))
let www: string
let nginx: RunningServer
let server: RunningServer
let rangeless: string
/** Of the raw disk. */
let whole: NonNullable<ImportRecord['image']>

beforeAll(async () => {
  www = owned.use(await createTempFolder()).path
  // Text, noise and holes, none of them whole clusters.
  const mix =
    'truncate -s 12M disk.raw; head -c 3000001 /dev/urandom | dd of=disk.raw conv=notrunc bs=1M status=none; seq 1 400000 | head -c 2500003 | dd of=disk.raw conv=notrunc bs=1k seek=6145 status=none; printf "\\125\\252" | dd of=disk.raw conv=notrunc bs=1 seek=510 status=none'
  await execa('sh', ['-euc', mix], { cwd: www })
  for (const [format, { make }] of Object.entries(formats)) {
    await execa('sh', ['-euc', make, 'sh', `image.${format}`], { cwd: www })
  }
  for (const { format, wrap } of rows) {
    const names = [`image.${format}`, `image.${format}.${wrap}`]
    await execa('sh', ['-euc', wraps[wrap] ?? '', 'sh', ...names], { cwd: www })
  }
  nginx = owned.use(await startNginx(www))
  const plain = createServer((request, response) => {
    const path = join(www, String(request.url))
    response.writeHead(200, { 'content-length': statSync(path).size })
    createReadStream(path).pipe(response)
  })
  owned.defer(() => plain[Symbol.asyncDispose]())
  rangeless = `http://127.0.0.1:${await listenOnLoopback(plain)}`
  server = owned.use(await startDvcr({ data: join(www, 'data') }))
  const record = await createImportsApi(server.url).run({
    source: `${nginx.url}/disk.raw`,
    name: 'whole',
  })
  if (!record.image) throw new Error('the raw disk was not imported')
  whole = record.image
}, 600_000)
afterAll(() => owned.disposeAsync())

type Imported = Pick<
  NonNullable<ImportRecord['image']>,
  'layerDigest' | 'contentDigest' | 'virtualSize'
>

async function importRow({ format, wrap, way }: Row): Promise<Imported> {
  const file = `image.${format}.${wrap}`
  const name = `trip/${format}`
  const imports = createImportsApi(server.url)
  const run = async (source: string): Promise<Imported> => {
    const record = await imports.run({ source, name, replace: true })
    expect(record.error).toBeUndefined()
    if (!record.image) throw new Error('an import that succeeds has an image')
    return record.image
  }
  switch (way) {
    case 'file': {
      const to = [`${name}:latest`, '--replace', '--server', server.url, '--json']
      return printedImport(await dvcr(['import', join(www, file), ...to]))
    }
    case 'http with ranges':
      return run(`${nginx.url}/${file}`)
    case 'http without':
      return run(`${rangeless}/${file}`)
    case 'container image': {
      const contents = await readFile(join(www, file))
      const tar = await tarOf([{ name: 'disk/' }, { name: 'disk/image', contents }])
      const layer = { mediaType: `${mediaTypes.ociLayer}+gzip`, bytes: gzipSync(tar, { level: 1 }) }
      return run(await pushArtifact(server, `container/${format}-${wrap}`, [layer]))
    }
  }
}

async function contentOf(name: string): Promise<string> {
  await using http = createHttpClient(new URL(server.url))
  await using scratch = await createTempFolder()
  const registry = createRegistryClient({ http, hashPool, scratchFolder: scratch.path })
  const content = await readImageContent(registry.repository(name), {
    label: name,
    reference: { kind: 'tag', tag: 'latest' },
    hashPool,
    clusterPool,
    scratchFolder: scratch.path,
    maxVirtualSize: 2 ** 44,
    retryDelaysMs: [],
    signal: new AbortController().signal,
    onBytes: () => {},
  })
  return content.contentDigest
}

describe('what is made of a disk', () => {
  it('is what qemu-img reads in each of its formats', async () => {
    const raw = await sha256OfFile(join(www, 'disk.raw'))
    for (const format of Object.keys(formats)) {
      const back = join(www, 'back')
      const driver = /^(?:raw|qcow2|vmdk|vdi|vhdx|vhd)/.exec(format)?.[0] ?? ''
      const from = driver === 'vhd' ? 'vpc' : driver
      const image = join(www, `image.${format}`)
      await execa('qemu-img', ['convert', '-f', from, '-O', 'raw', image, back])
      expect({ format, sha256: await sha256OfFile(back) }).toEqual({ format, sha256: raw })
    }
  })

  it.each(rows)('$format, $wrap, $way: is the same disk', async (row) => {
    const image = await importRow(row)
    expect(image.virtualSize).toBe(diskBytes)
    // What is stored as it came has another layer, of the same content.
    const { layerDigest, contentDigest } = whole
    const isCopied = formats[row.format]?.copied === true
    const found = isCopied ? await contentOf(`trip/${row.format}`) : image.contentDigest
    expect(found).toBe(contentDigest)
    expect(image.layerDigest === layerDigest).toBe(!isCopied)
  })
})

/** Disks of 1 TiB with a few bytes far apart. */
const huge = {
  qcow2: '-O qcow2',
  vmdk: '-O vmdk',
  vdi: '-O vdi',
  vhdx: '-O vhdx',
} as const

it('disks of 1 TiB are the same from every format', async () => {
  const writes = ['0 64k', '511G 1M', '1023G 100k'].flatMap((where, at) => [
    '-c',
    `write -P ${at + 1} ${where}`,
  ])
  const qcow2 = join(www, 'huge.qcow2')
  await execa('qemu-img', ['create', '-q', '-f', 'qcow2', qcow2, '1T'])
  await execa('qemu-io', ['-f', 'qcow2', ...writes, qcow2])
  const imports = createImportsApi(server.url)
  const digests = new Set<string | undefined>()
  for (const [format, options] of Object.entries(huge)) {
    const path = `made.${format}`
    await execa('qemu-img', [
      'convert',
      '-f',
      'qcow2',
      ...options.split(' '),
      qcow2,
      join(www, path),
    ])
    const name = `huge/${format}`
    const record = await imports.run({ source: `${nginx.url}/${path}`, name })
    expect(record.error).toBeUndefined()
    expect(record.image?.virtualSize).toBe(1024 ** 4)
    digests.add(record.image?.contentDigest ?? (await contentOf(name)))
  }
  expect(digests.size).toBe(1)
}, 300_000)
