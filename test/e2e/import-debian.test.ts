import { execa } from 'execa'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  compressedVariants,
  diskImage,
  linkImages,
  qcow2Variants,
  type Variant,
} from '../fixtures/images.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { bootSerial } from '../fixtures/qemu-boot.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { createImportsApi, type ImportsApi } from './imports-api.ts'
import { isNightly } from './nightly.ts'
import {
  expectedChunkList,
  expectSameDisk,
  fetchChunkList,
  pullImage,
  sha256OfFile,
} from './pulled-image.ts'
import { readStoreFolder } from './store-folder.ts'

const rawVariants: readonly Variant[] = isNightly
  ? ['raw', ...compressedVariants]
  : ['raw.gz', 'raw.multi-block.xz']
/** Takes 10 GiB of disk. */
const asIsVariants: readonly Variant[] = isNightly ? ['raw.zst'] : []
const copiedVariants: readonly Variant[] = isNightly ? qcow2Variants : ['zlib.qcow2']
const virtualSize = 10 * 1024 ** 3

const owned = new AsyncDisposableStack()
let nginx: RunningServer
let server: RunningServer
let imports: ImportsApi
let data: string
let encoded: Awaited<ReturnType<typeof importDebian>>

beforeAll(async () => {
  const www = owned.use(await createTempFolder()).path
  await linkImages(www, 'debian', [
    ...new Set([...rawVariants, ...copiedVariants, 'raw.zst' as const]),
  ])
  nginx = owned.use(await startNginx(www))
  data = owned.use(await createTempFolder()).path
  server = owned.use(await startDvcr({ data }))
  imports = createImportsApi(server.url)
  encoded = await importDebian('raw.zst', 'debian/encoded')
})
afterAll(() => owned.disposeAsync())

async function importDebian(variant: Variant, name: string) {
  const source = `${nginx.url}/debian.${variant}`
  const record = await imports.run({ source, name })
  if (!record.image) throw new Error(`the import ended as ${JSON.stringify(record)}`)
  return record.image
}

async function expectLogin(diskPath: string): Promise<void> {
  const boot = { format: 'qcow2', memoryMib: 512, timeoutMs: 8 * 60_000 } as const
  const serial = await bootSerial(diskPath, { ...boot, until: /login:/ })
  expect(serial).toContain('Debian GNU/Linux 12 dvcr-debian ttyS0')
}

it.each(rawVariants)('a raw Debian disk as %s is the same layer', async (variant) => {
  const image = await importDebian(variant, `debian/${variant.replaceAll('.', '-')}`)
  const { layerDigest, contentDigest } = encoded
  expect(image).toMatchObject({ format: 'raw', virtualSize, layerDigest, contentDigest })
})

it('a raw Debian disk is stored as a qcow2 of the same content, which boots', async () => {
  await using folder = await createTempFolder()
  const pulled = await pullImage(server, 'debian/encoded:latest', { folder: folder.path })
  expect(pulled.layerDigest).toBe(encoded.layerDigest)
  expect(pulled.annotations['io.dvcr.content-digest']).toBe(encoded.contentDigest)
  expect(await fetchChunkList(server, 'debian/encoded', pulled)).toEqual(
    await expectedChunkList(pulled.layerPath),
  )
  await expectSameDisk(pulled.diskPath, await diskImage('debian', 'raw'))
  await expectLogin(pulled.diskPath)
})

it.each(copiedVariants)('a Debian disk as %s keeps its bytes', async (variant) => {
  await using folder = await createTempFolder()
  const name = `debian/${variant.replaceAll('.', '-')}`
  const image = await importDebian(variant, name)
  expect(image).toMatchObject({ format: 'qcow2', storedFormat: 'qcow2', virtualSize })
  const pulled = await pullImage(server, `${name}:latest`, { folder: folder.path })
  const source = await diskImage('debian', variant)
  expect(await sha256OfFile(pulled.diskPath)).toBe(await sha256OfFile(source))
  expect(await fetchChunkList(server, name, pulled)).toEqual(
    await expectedChunkList(pulled.layerPath),
  )
  if (isNightly) await expectLogin(pulled.diskPath)
})

it.each(asIsVariants)('a layer of more than 8 GiB, of %s, is read by tar', async (variant) => {
  await using folder = await createTempFolder()
  await using large = await startDvcr({ data: join(folder.path, 'data') })
  const source = `${nginx.url}/debian.${variant}`
  const { image } = await createImportsApi(large.url).run({ source, name: 'l', store: 'as-is' })
  const blob = `${large.url}/v2/l/blobs/${image?.layerDigest}`
  const list = `curl -sf ${blob} | tar -tv --numeric-owner`
  const { stdout } = await execa('sh', ['-c', list])
  expect(stdout).toMatch(/107\/107 +10737418240 .* disk\/disk\.img$/)
})

it('a second import gives the same manifest digest and stores nothing more', async () => {
  const [variant = 'zlib.qcow2'] = copiedVariants
  const first = await importDebian(variant, 'again/first')
  const before = (await readStoreFolder(data)).blobs
  const second = await importDebian(variant, 'again/second')
  expect(second.digest).toBe(first.digest)
  expect((await readStoreFolder(data)).blobs).toEqual(before)
})

it('an import cancelled while xz decodes on all cores leaves the server well', async () => {
  const source = `${nginx.url}/debian.raw.multi-block.xz`
  for (const tag of ['a', 'b', 'c']) {
    const { id } = await imports.create({ source, name: 'cancelled', tag })
    await imports.until(id, ({ progress }) => progress.bytes > 4 * 1024 * 1024)
    expect(await imports.cancel(id)).toMatchObject({ state: 'cancelled' })
  }
  expect((await fetch(`${server.url}/readyz`)).status).toBe(200)
  const contents = await readStoreFolder(data)
  expect(contents).toMatchObject({ broken: [], orphans: [], uploads: [], scratch: [] })
})
