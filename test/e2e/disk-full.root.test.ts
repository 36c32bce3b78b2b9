import { execa } from 'execa'
import { randomBytes } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { mountSmallDisk } from '../fixtures/small-disk.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { dvcr } from './dvcr-command.ts'
import { startGatedSource } from './gated-source.ts'
import { createImportsApi, readVisible, type ImportsApi } from './imports-api.ts'
import { readStoreFolder } from './store-folder.ts'

const mib = 1024 * 1024
const owned = new AsyncDisposableStack()
let nginx: RunningServer
let server: RunningServer
let imports: ImportsApi
let disk: string

beforeAll(async () => {
  const www = owned.use(await createTempFolder()).path
  await writeFile(join(www, 'large.raw'), randomBytes(128 * mib))
  await execa('gzip', ['-1', '-k', join(www, 'large.raw')])
  await writeFile(join(www, 'small.raw'), bootSectorDisk({ size: 4 * mib }))
  nginx = owned.use(await startNginx(www))
  disk = owned.use(await mountSmallDisk(64 * mib)).path
  server = owned.use(await startDvcr({ data: join(disk, 'data') }))
  imports = createImportsApi(server.url)
})
afterAll(() => owned.disposeAsync())

let imported = 0

/** The server is well and goes on working, and nothing of a failed import is left. */
async function expectHealthy(): Promise<void> {
  const name = `small/${++imported}`
  const { error } = await imports.run({ source: `${nginx.url}/small.raw`, name })
  expect(error).toBeUndefined()
  for (const path of ['/healthz', '/readyz']) {
    expect((await fetch(server.url + path)).status).toBe(200)
  }
  expect(Object.keys(await readVisible(server.url))).toContain(name)
  expect(await readVisible(server.url)).not.toHaveProperty('large')
  const contents = await readStoreFolder(join(disk, 'data'))
  expect(contents).toMatchObject({ broken: [], orphans: [], uploads: [], scratch: [] })
}
afterEach(expectHealthy)

it('a disk that is said to be larger than the room is refused before it is transferred', async () => {
  const source = `${nginx.url}/large.raw`
  const { error, progress } = await imports.run({ source, name: 'large', store: 'as-is' })
  expect(error).toMatchObject({ code: 'STORAGE_FULL', retryable: true })
  expect(error?.message).toMatch(/cannot store 1342\d{5} bytes: the storage has \d+ bytes free/)
  expect(progress.bytes).toBeLessThan(16 * mib)
})

it.each([
  ['large.raw', 'auto'],
  ['large.raw.gz', 'auto'],
  ['large.raw.gz', 'as-is'],
])('%s, stored %s, ends with one clear error where the room ends', async (file, store) => {
  const url = `${nginx.url}/${file}`
  const command = ['import', url, 'large:1', '--store', store, '--server', server.url]
  const { exitCode, stdout, stderr } = await dvcr(command)
  expect({ exitCode, stdout }).toEqual({ exitCode: 3, stdout: '' })
  expect(stderr.match(/STORAGE_FULL: .*no space left.*free space/g)).toHaveLength(1)
  const [record] = await imports.list('?name=large&limit=1')
  expect(record).toMatchObject({ state: 'failed', error: { code: 'STORAGE_FULL' } })
})

it('an import into a folder on the full disk fails the same way', async () => {
  const data = join(disk, 'other')
  const url = `${nginx.url}/large.raw.gz`
  const { exitCode, stderr } = await dvcr(['import', url, 'large:1', '--data', data])
  expect(exitCode).toBe(3)
  expect(stderr).toContain('dvcr: STORAGE_FULL: ')
  const empty = { blobs: [], orphans: [], uploads: [], scratch: [] }
  expect(await readStoreFolder(data)).toMatchObject(empty)
  await rm(data, { recursive: true })
})

async function fill(name: string): Promise<void> {
  const writing = writeFile(join(disk, name), Buffer.alloc(64 * mib))
  await expect(writing).rejects.toMatchObject({ code: 'ENOSPC' })
}

it('a disk filled by others stops imports, not the server', async () => {
  await using gated = await startGatedSource(bootSectorDisk({ size: 4 * mib }))
  const { id } = await imports.create({ source: gated.url, name: 'large' })
  await gated.held()
  await fill('filler')
  const refused = await imports.post({ source: `${nginx.url}/small.raw`, name: 'large' })
  expect(refused.status).toBe(507)
  expect(await refused.json()).toMatchObject({ errors: [{ code: 'STORAGE_FULL' }] })
  gated.open()
  const { state, error } = await imports.finished(id)
  expect([state, error?.code]).toEqual(['failed', 'STORAGE_FULL'])
  // The failed import gave its room back.
  await fill('second-filler')
  expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
  while ((await fetch(`${server.url}/readyz`)).status === 200) await sleep(100)
  const ready = await fetch(`${server.url}/readyz`)
  expect(await ready.json()).toMatchObject({ errors: [{ code: 'STORAGE_FULL' }] })

  for (const name of ['filler', 'second-filler']) await rm(join(disk, name))
  while ((await fetch(`${server.url}/readyz`)).status !== 200) await sleep(100)
})
