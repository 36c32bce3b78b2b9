import { execa } from 'execa'
import { readFile, symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bootSectorDisk, bootSectorLine } from '../fixtures/boot-sector.ts'
import {
  compressedVariants,
  diskImage,
  grubRescueIso,
  linkImages,
  qcow2Variants,
  rewrittenVariants,
} from '../fixtures/images.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { bootSerial } from '../fixtures/qemu-boot.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { dvcr } from './dvcr-command.ts'
import { createImportsApi } from './imports-api.ts'
import { printedImport } from './printed-import.ts'
import {
  expectedChunkList,
  expectSameDisk,
  fetchChunkList,
  pullImage,
  sha256OfFile,
} from './pulled-image.ts'
import { readStoreFolder } from './store-folder.ts'

const rawVariants = ['raw', ...compressedVariants] as const
const rewritten = rewrittenVariants.map(([variant]) => variant)
const bootTimeoutMs = 120_000
/** 100 bytes into a sector. */
const oddSize = 1024 * 1024 + 100

const owned = new AsyncDisposableStack()
let nginx: RunningServer
let server: RunningServer
let data: string

beforeAll(async () => {
  const www = owned.use(await createTempFolder()).path
  await linkImages(www, 'boot-sector', [...rawVariants, ...qcow2Variants, ...rewritten])
  await symlink(grubRescueIso, join(www, basename(grubRescueIso)))
  await writeFile(
    join(www, 'odd.raw'),
    bootSectorDisk({ size: oddSize + 412 }).subarray(0, oddSize),
  )
  const wrap =
    'gzip -c boot-sector.vdi >vdi.gz; gzip -c boot-sector.zstd.qcow2 >qcow2.gz; xz -c qcow2.gz >qcow2.gz.xz; bzip2 -c boot-sector.raw >raw.bz2; lz4 -q raw.bz2 bz2.lz4'
  const appliance =
    'echo "<Envelope/>" >box.ovf; cp -L boot-sector.vmdk box.vmdk; sha256sum --tag box.vmdk >box.mf; tar -cf box.ova box.ovf box.mf box.vmdk'
  await execa('sh', ['-euc', `${wrap}; ${appliance}`], { cwd: www })
  nginx = owned.use(await startNginx(www))
  data = owned.use(await createTempFolder()).path
  server = owned.use(await startDvcr({ data }))
})
afterAll(() => owned.disposeAsync())

const sourceOf = (variant: string) => `${nginx.url}/boot-sector.${variant}`

async function importByCommand(source: string, image: string, ...flags: readonly string[]) {
  const command = ['import', source, image, '--server', server.url, '--json', ...flags]
  return printedImport(await dvcr(command))
}

async function expectBoots(diskPath: string, format: 'raw' | 'qcow2'): Promise<void> {
  const until = new RegExp(bootSectorLine)
  const serial = await bootSerial(diskPath, { format, until, timeoutMs: bootTimeoutMs })
  expect(serial).toContain(bootSectorLine)
}

describe('a raw disk', () => {
  it.each(rawVariants)('as %s is stored as a qcow2 of the same content', async (variant) => {
    await using folder = await createTempFolder()
    const name = `encoded/${variant.replaceAll('.', '-')}`
    const printed = await importByCommand(sourceOf(variant), `${name}:1`)
    expect(printed).toMatchObject({ format: 'raw', storedFormat: 'qcow2' })
    expect(printed.virtualSize).toBe(16 * 1024 * 1024)

    const pulled = await pullImage(server, `${name}:1`, { folder: folder.path })
    expect(pulled.manifestDigest).toBe(printed.digest)
    expect(pulled.layerDigest).toBe(printed.layerDigest)
    expect(await fetchChunkList(server, name, pulled)).toEqual(
      await expectedChunkList(pulled.layerPath),
    )
    await expectSameDisk(pulled.diskPath, await diskImage('boot-sector', 'raw'))
    await expectBoots(pulled.diskPath, 'qcow2')
  })

  it('gives the same layer and content digest from every wrapping', async () => {
    const imports = createImportsApi(server.url)
    const ends = await Promise.all(
      rawVariants.map((variant) =>
        imports.run({ source: sourceOf(variant), name: 'wrappings', tag: variant }),
      ),
    )
    expect(new Set(ends.map(({ image }) => image?.layerDigest)).size).toBe(1)
    expect(new Set(ends.map(({ image }) => image?.contentDigest)).size).toBe(1)
    expect(ends[0]?.image?.contentDigest).toMatch(/^sha256:/)
  })

  it('with --store as-is keeps its bytes, with a warning', async () => {
    await using folder = await createTempFolder()
    const source = sourceOf('raw.zst')
    const outcome = await dvcr([
      'import',
      source,
      'as-is:1',
      '--store',
      'as-is',
      '--server',
      server.url,
      '--json',
    ])
    expect(printedImport(outcome).storedFormat).toBe('raw')
    expect(outcome.stderr).toContain('warning: stored as raw')
    const pulled = await pullImage(server, 'as-is:1', {
      folder: folder.path,
      fileName: 'disk.img',
    })
    const raw = await diskImage('boot-sector', 'raw')
    expect(await sha256OfFile(pulled.diskPath)).toBe(await sha256OfFile(raw))
    const chunks = await fetchChunkList(server, 'as-is', pulled)
    expect(chunks).toEqual(await expectedChunkList(pulled.layerPath))
    expect(chunks.length).toBe(24 + 5 * 32)
    await expectBoots(pulled.diskPath, 'raw')
  })

  it('that ends inside a sector keeps its exact size and bytes', async () => {
    await using folder = await createTempFolder()
    const printed = await importByCommand(`${nginx.url}/odd.raw`, 'odd:1')
    expect(printed.virtualSize).toBe(oddSize + 412)
    const pulled = await pullImage(server, 'odd:1', { folder: folder.path })
    expect(pulled.annotations['io.dvcr.disk.exact-size']).toBe(String(oddSize))
    const back = join(folder.path, 'back.raw')
    await execa('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', pulled.diskPath, back])
    const source = bootSectorDisk({ size: oddSize + 412 }).subarray(0, oddSize)
    const padded = Buffer.concat([source, Buffer.alloc(412)])
    expect(Buffer.compare(await readFile(back), padded)).toBe(0)
  })

  it('imported twice gives the same manifest digest', async () => {
    const first = await importByCommand(sourceOf('raw.xz'), 'twice:1')
    const second = await importByCommand(sourceOf('raw.xz'), 'twice:1', '--replace')
    expect(second.digest).toBe(first.digest)
    const elsewhere = await importByCommand(sourceOf('raw.xz'), 'twice/elsewhere:2')
    expect(elsewhere.digest).toBe(first.digest)
  })

  it('given as a file or on standard input gives the layer of the download', async () => {
    const path = await diskImage('boot-sector', 'raw.gz')
    const downloaded = await importByCommand(sourceOf('raw.gz'), 'local:url')
    const fromFile = await importByCommand(path, 'local:file')
    expect(fromFile.layerDigest).toBe(downloaded.layerDigest)
    const fromStdin = await dvcr(['import', '-', 'local:stdin', '--server', server.url, '--json'], {
      input: await readFile(path),
    })
    expect(printedImport(fromStdin).layerDigest).toBe(downloaded.layerDigest)
  })
})

describe('what is stored as it came', () => {
  it.each(qcow2Variants)('a disk as %s keeps its bytes', async (variant) => {
    await using folder = await createTempFolder()
    const name = `copied/${variant.replaceAll('.', '-')}`
    const printed = await importByCommand(sourceOf(variant), `${name}:1`)
    expect(printed).toMatchObject({ format: 'qcow2', storedFormat: 'qcow2' })
    expect(printed.virtualSize).toBe(16 * 1024 * 1024)
    const pulled = await pullImage(server, `${name}:1`, { folder: folder.path })
    const source = await diskImage('boot-sector', variant)
    expect(await sha256OfFile(pulled.diskPath)).toBe(await sha256OfFile(source))
    expect(await fetchChunkList(server, name, pulled)).toEqual(
      await expectedChunkList(pulled.layerPath),
    )
    await expectBoots(pulled.diskPath, 'qcow2')
  })

  it('a disk wrapped once or twice gives the layer of the bare one', async () => {
    const bare = await importByCommand(sourceOf('zstd.qcow2'), 'wrapped:bare')
    const once = await importByCommand(`${nginx.url}/qcow2.gz`, 'wrapped:once')
    const twice = await importByCommand(`${nginx.url}/qcow2.gz.xz`, 'wrapped:twice')
    expect(once.layerDigest).toBe(bare.layerDigest)
    expect(twice.layerDigest).toBe(bare.layerDigest)
    const raw = await importByCommand(sourceOf('raw'), 'wrapped:raw')
    for (const wrapped of ['raw.bz2', 'bz2.lz4']) {
      const printed = await importByCommand(`${nginx.url}/${wrapped}`, `wrapped:${wrapped}`)
      expect(printed.layerDigest).toBe(raw.layerDigest)
    }
  })

  it('a bootable ISO keeps its bytes and boots', async () => {
    await using folder = await createTempFolder()
    const source = `${nginx.url}/${basename(grubRescueIso)}`
    const printed = await importByCommand(source, 'rescue:grub')
    expect(printed).toMatchObject({ format: 'iso', storedFormat: 'iso' })
    const pulled = await pullImage(server, 'rescue:grub', {
      folder: folder.path,
      fileName: 'disk.iso',
    })
    expect(await sha256OfFile(pulled.diskPath)).toBe(await sha256OfFile(grubRescueIso))
    const until = /Welcome to GRUB/
    await bootSerial(pulled.diskPath, { format: 'iso', until, timeoutMs: bootTimeoutMs })
  })
})

describe('a disk that no node boots from as it is', () => {
  it.each(rewrittenVariants)('as %s has the layer of the raw disk', async (variant, format) => {
    const raw = await importByCommand(sourceOf('raw'), 'rewritten/raw:1', '--replace')
    const name = `rewritten/${variant.replaceAll('.', '-')}`
    const printed = await importByCommand(sourceOf(variant), `${name}:1`)
    const { layerDigest, contentDigest } = raw
    expect(printed).toMatchObject({ format, storedFormat: 'qcow2', layerDigest, contentDigest })
    const refused = await dvcr([
      'import',
      sourceOf(variant),
      'refused:1',
      '--store',
      'as-is',
      '--server',
      server.url,
    ])
    expect(refused).toMatchObject({ exitCode: 1 })
    expect(refused.stderr).toContain('FORMAT_UNSUPPORTED')
    expect((await fetch(`${server.url}/v2/refused/tags/list`)).status).toBe(404)
  })

  it('is unpacked first, of an appliance too', async () => {
    const raw = await importByCommand(sourceOf('raw'), 'rewritten/raw:1', '--replace')
    const { layerDigest } = raw
    const printed = await importByCommand(`${nginx.url}/vdi.gz`, 'rewritten/packed:1')
    expect(printed).toMatchObject({ format: 'vdi', layerDigest })
    const fromAppliance = await importByCommand(`${nginx.url}/box.ova`, 'rewritten/ova:1')
    expect(fromAppliance).toMatchObject({ format: 'vmdk', layerDigest })
  })
})

it('leaves nothing behind but the blobs of its images', async () => {
  const contents = await readStoreFolder(data)
  expect(contents).toMatchObject({ broken: [], orphans: [], uploads: [], scratch: [] })
})
