import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { noise } from '../fixtures/chunks.ts'
import { startDvcr } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startCountingSource } from './counting-source.ts'
import { createImportsApi, type ImportsApi } from './imports-api.ts'
import { readStoreFolder } from './store-folder.ts'

const mib = 1024 * 1024
const owned = new AsyncDisposableStack()
let folder: string
let imports: ImportsApi

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  const disk = bootSectorDisk({ size: 64 * mib })
  noise(60 * mib).copy(disk, mib)
  await writeFile(join(folder, 'large.raw'), disk)
  await writeFile(join(folder, 'small.raw'), disk.subarray(0, 8 * mib))
  const quotas = [
    { prefix: 'team/', limit: '20Mi' },
    { prefix: 'full/', limit: '1' },
  ]
  const config = join(folder, 'dvcr.yaml')
  await writeFile(config, JSON.stringify({ quotas }))
  const data = join(folder, 'data')
  imports = createImportsApi(owned.use(await startDvcr({ data, args: ['--config', config] })).url)
})
afterAll(() => owned.disposeAsync())

it.each([
  ['that is copied and is larger', 'team/a', 'as-is'],
  ['that would be more', 'full/a', 'auto'],
] as const)(
  'a disk %s than its quota allows is refused before its bytes come',
  async (_what, name, store) => {
    const path = join(folder, 'large.raw')
    await using source = await startCountingSource(path, { ranges: true, bytesPerSecond: 16 * mib })
    const { error } = await imports.run({ source: source.url, name, store })
    expect(error).toMatchObject({ code: 'QUOTA_EXCEEDED', retryable: false })
    expect(error?.message).toMatch(/use 0 of \d+ bytes/)
    expect(source.sentBytes).toBeLessThan(8 * mib)
  },
)

it('a disk that turns out to be larger is refused where it is, and one that fits is not', async () => {
  const from = (file: string) =>
    startCountingSource(join(folder, file), { ranges: true, bytesPerSecond: Infinity })
  await using large = await from('large.raw')
  const { error } = await imports.run({ source: large.url, name: 'team/b' })
  expect(error).toMatchObject({ code: 'QUOTA_EXCEEDED' })
  expect(error?.message).toMatch(/delete images .* up to \d+ bytes more/)
  await using small = await from('small.raw')
  for (const tag of ['1', '2']) {
    const record = await imports.run({ source: small.url, name: 'team/b', tag })
    expect(record.error).toBeUndefined()
  }
  const left = await readStoreFolder(join(folder, 'data'))
  expect(left).toMatchObject({ broken: [], orphans: [], uploads: [], scratch: [] })
})
