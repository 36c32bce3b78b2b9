import { execa } from 'execa'
import { randomBytes } from 'node:crypto'
import { statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startDvcr } from '../fixtures/servers.ts'
import { mountSmallDisk } from '../fixtures/small-disk.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startCountingSource } from './counting-source.ts'
import { dvcr } from './dvcr-command.ts'
import { createImportsApi } from './imports-api.ts'
import { readStoreFolder } from './store-folder.ts'

const mib = 1024 * 1024
const owned = new AsyncDisposableStack()
let www: string

beforeAll(async () => {
  www = owned.use(await createTempFolder()).path
  const raw = bootSectorDisk({ size: 192 * mib })
  randomBytes(190 * mib).copy(raw, mib)
  await writeFile(join(www, 'disk.raw'), raw)
  const convert = ['convert', '-O', 'qcow2', join(www, 'disk.raw'), join(www, 'disk.qcow2')]
  await execa('qemu-img', convert)
})
afterAll(() => owned.disposeAsync())

const serve = (file: string, bytesPerSecond: number) =>
  startCountingSource(join(www, file), { ranges: true, bytesPerSecond })

it('what is copied and cannot fit is refused before its bytes come', async () => {
  await using disk = await mountSmallDisk(160 * mib)
  await using server = await startDvcr({ data: join(disk.path, 'data') })
  await using source = await serve('disk.qcow2', 32 * mib)
  const { error } = await createImportsApi(server.url).run({ source: source.url, name: 'large' })
  expect(error).toMatchObject({ code: 'STORAGE_FULL', retryable: true })
  expect(error?.message).toMatch(/cannot store \d+ bytes: .* \d+ bytes free; free space/)
  expect(source.sentBytes).toBeLessThan(16 * mib)
})

it('what runs out of room half-way gives it back, and can be done again where there is more', async () => {
  await using disk = await mountSmallDisk(160 * mib)
  const data = join(disk.path, 'data')
  await using server = await startDvcr({ data })
  const imports = createImportsApi(server.url)
  const free = async () => (await statfs(disk.path)).bavail * (await statfs(disk.path)).bsize
  const before = await free()
  // Behind its first checkpoint, which is then of no use.
  await using source = await serve('disk.raw', Infinity)
  const { id, error } = await imports.run({ source: source.url, name: 'large' })
  expect(error).toMatchObject({ code: 'STORAGE_FULL', retryable: true })
  expect(error?.message).toMatch(/free space .* up to \d+ bytes more/)
  const empty = { broken: [], orphans: [], uploads: [], scratch: [] }
  // It fails first, and then cleans up.
  await expect.poll(() => readStoreFolder(data)).toMatchObject(empty)
  expect(before - (await free())).toBeLessThan(mib)

  await execa('mount', ['-o', 'remount,size=512M', disk.path])
  const again = await dvcr(['imports', 'retry', id, '--server', server.url])
  expect(again).toMatchObject({ exitCode: 0 })
  expect((await imports.finished(id)).error).toBeUndefined()
  expect(await readStoreFolder(data)).toMatchObject(empty)
})

it('what goes on after a kill -9 needs room for the rest of it only', async () => {
  await using disk = await mountSmallDisk(224 * mib)
  const data = join(disk.path, 'data')
  await using source = await serve('disk.qcow2', 64 * mib)
  let id: string
  {
    await using server = await startDvcr({ data })
    const imports = createImportsApi(server.url)
    id = (await imports.create({ source: source.url, name: 'large' })).id
    await imports.until(id, ({ progress }) => progress.bytes > 136 * mib)
    await server.kill9()
  }
  await using server = await startDvcr({ data })
  const { error } = await createImportsApi(server.url).finished(id)
  expect(error).toBeUndefined()
})
