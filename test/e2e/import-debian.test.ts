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
  : ['raw.gz', 'raw.multi-block.xz', 'raw.zst']
const copiedVariants: readonly Variant[] = isNightly ? qcow2Variants : ['zlib.qcow2']
const virtualSize = 10 * 1024 ** 3

const owned = new AsyncDisposableStack()
let nginx: RunningServer
let server: RunningServer
let imports: ImportsApi
let data: string

beforeAll(async () => {
  const www = owned.use(await createTempFolder()).path
  await linkImages(www, 'debian', [...rawVariants, ...copiedVariants])
  nginx = owned.use(await startNginx(www))
  data = owned.use(await createTempFolder()).path
  server = owned.use(await startDvcr({ data }))
  imports = createImportsApi(server.url)
})
afterAll(() => owned.disposeAsync())

async function importDebian(variant: Variant, name: string) {
  const source = `${nginx.url}/debian.${variant}`
  const { state, image, error } = await imports.run({ source, name })
  expect(error).toBeUndefined()
  if (state !== 'succeeded' || !image) throw new Error(`the import ended as ${state}`)
  return image
}

async function expectLogin(diskPath: string): Promise<void> {
  const boot = { format: 'qcow2', memoryMib: 512, timeoutMs: 8 * 60_000 } as const
  const serial = await bootSerial(diskPath, { ...boot, until: /login:/ })
  expect(serial).toContain('Debian GNU/Linux 12 dvcr-debian ttyS0')
}

it('a raw Debian disk gives one layer from every wrapping, which boots', async () => {
  await using folder = await createTempFolder()
  const layers = new Set<string>()
  for (const variant of rawVariants) {
    const image = await importDebian(variant, `debian/${variant.replaceAll('.', '-')}`)
    expect(image).toMatchObject({ format: 'raw', storedFormat: 'qcow2', virtualSize })
    layers.add(`${image.layerDigest} ${image.contentDigest}`)
  }
  expect(layers.size).toBe(1)
  const pulled = await pullImage(server, 'debian/raw-gz', { folder: folder.path })
  expect(layers).toContain(
    `${pulled.layerDigest} ${pulled.annotations['io.dvcr.content-digest'] ?? ''}`,
  )
  expect(await fetchChunkList(server, 'debian/raw-gz', pulled)).toEqual(
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
