import { execa } from 'execa'
import { open, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { storedImportSchema } from '../../importer/import-record.ts'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { dvcr, startCommand } from './dvcr-command.ts'
import { startGatedSource } from './gated-source.ts'
import { createImportsApi, readVisible, type WantedImport } from './imports-api.ts'
import { isNightly } from './nightly.ts'
import { printedImport } from './printed-import.ts'
import { expectSameDisk, pullImage } from './pulled-image.ts'
import { createSeededRandom } from './seeded-random.ts'
import { readStoreFolder } from './store-folder.ts'

const diskSize = 512 * 1024 * 1024
const small = bootSectorDisk({ size: 4 * 1024 * 1024 })
const seeds = Array.from({ length: isNightly ? 30 : 5 }, (_, index) => index + 1)
const files = ['disk.raw', 'disk.qcow2', 'disk.raw.gz'] as const
type FileName = (typeof files)[number]

const owned = new AsyncDisposableStack()
let www: string
let nginx: RunningServer
/** What an import that nobody disturbs gives. */
const undisturbed = new Map<FileName, { digest: string; layer: string; durationMs: number }>()

const wantedOf = (file: FileName): WantedImport => ({
  source: `${nginx.url}/${file}`,
  name: 'crash/disk',
})

beforeAll(async () => {
  www = owned.use(await createTempFolder()).path
  const raw = join(www, 'disk.raw')
  {
    await using file = await open(raw, 'w')
    await file.writeFile(bootSectorDisk({ size: diskSize }))
  }
  await execa('qemu-img', ['convert', '-O', 'qcow2', raw, join(www, 'disk.qcow2')])
  await execa('gzip', ['-1', '-k', raw])
  nginx = owned.use(await startNginx(www))
  await using data = await createTempFolder()
  await using server = await startDvcr({ data: data.path })
  for (const file of files) {
    const wanted = { ...wantedOf(file), tag: file }
    const { image } = await createImportsApi(server.url).run(wanted)
    if (!image) throw new Error(`${file} was not imported`)
    const { digest, layerDigest: layer, durationMs } = image
    undisturbed.set(file, { digest, layer, durationMs })
  }
})
afterAll(() => owned.disposeAsync())

/** Kills the server somewhere in the import: any time, or around its last steps. */
async function killDuringImport(data: string, file: FileName, random: () => number) {
  await using server = await startDvcr({ data })
  const imports = createImportsApi(server.url)
  const lateStage = random() < 0.5 ? (['digest', 'commit'] as const)[random() < 0.5 ? 0 : 1] : 'any'
  const delayMs = random() * (lateStage === 'any' ? (undisturbed.get(file)?.durationMs ?? 0) : 15)
  const { id } = await imports.create(wantedOf(file))
  if (lateStage !== 'any') await stageReached(`${server.url}/v1/imports/${id}/events`, lateStage)
  await sleep(delayMs)
  await server.kill9()
  return id
}

async function stageReached(eventsUrl: string, stage: string): Promise<void> {
  const response = await fetch(eventsUrl)
  const decoder = new TextDecoder()
  let seen = ''
  for await (const chunk of response.body ?? []) {
    seen += decoder.decode(chunk, { stream: true })
    if (seen.includes(`"stage":"${stage}"`)) return
  }
}

describe('dvcr serve killed during an import', () => {
  it.each(seeds)('goes on by itself after the restart (seed %i)', async (seed) => {
    await using data = await createTempFolder()
    const file = files[seed % files.length] ?? 'disk.raw'
    const expected = undisturbed.get(file)
    const id = await killDuringImport(data.path, file, createSeededRandom(seed))
    const { broken, blobs } = await readStoreFolder(data.path)
    expect(broken).toEqual([])

    await using server = await startDvcr({ data: data.path })
    const imports = createImportsApi(server.url)
    const visible = await readVisible(server.url)
    const isVisible = visible['crash/disk'] !== undefined
    expect(isVisible && !blobs.includes(expected?.layer ?? '')).toBe(false)
    const record = await imports.finished(id)
    expect(record.error).toBeUndefined()
    expect(record).toMatchObject({ state: 'succeeded', image: { digest: expected?.digest } })
    expect(await readVisible(server.url)).toEqual({ 'crash/disk': ['latest'] })

    await using folder = await createTempFolder()
    const pulled = await pullImage(server, 'crash/disk:latest', { folder: folder.path })
    expect(pulled).toMatchObject({ manifestDigest: expected?.digest, layerDigest: expected?.layer })
    await expectSameDisk(pulled.diskPath, join(www, 'disk.raw'))
    const after = await readStoreFolder(data.path)
    expect(after).toMatchObject({ broken: [], orphans: [], uploads: [], scratch: [] })
    expect(after.blobs).toHaveLength(3)
  })

  it('is reported by the command that waits for it', async () => {
    await using data = await createTempFolder()
    await using gated = await startGatedSource(small)
    await using server = await startDvcr({ data: data.path })
    const command = startCommand(['import', gated.url, 'waiting:1', '--server', server.url])
    await gated.held()
    await server.kill9()
    const { exitCode, stdout, stderr } = await command.ended
    expect({ exitCode, stdout }).toEqual({ exitCode: 3, stdout: '' })
    expect(stderr).toMatch(/dvcr: TARGET_UNAVAILABLE: .*: dvcr imports$/)
  })

  it('after the image was complete but before that was recorded: the import succeeds', async () => {
    await using data = await createTempFolder()
    {
      await using server = await startDvcr({ data: data.path })
      await createImportsApi(server.url).run(wantedOf('disk.qcow2'))
    }
    const folder = join(data.path, 'v1/imports')
    const [name = ''] = await readdir(folder)
    const path = join(folder, name)
    const stored = storedImportSchema.parse(JSON.parse(await readFile(path, 'utf8')))
    const { finishedAt: _at, image: _image, stage: _stage, ...record } = stored.record
    await writeFile(path, JSON.stringify({ ...stored, record: { ...record, state: 'queued' } }))

    await using server = await startDvcr({ data: data.path })
    const end = await createImportsApi(server.url).finished(record.id)
    expect(end.error).toBeUndefined()
    expect(end.image?.digest).toBe(undisturbed.get('disk.qcow2')?.digest)
  })

  it('keeps what was finished and forgets nothing that was queued', async () => {
    await using data = await createTempFolder()
    await using gated = await startGatedSource(small)
    const key = { 'idempotency-key': 'over-the-crash' }
    const wanted = { source: gated.url, name: 'queued', tag: '1' }
    const ids: string[] = []
    {
      await using server = await startDvcr({ data: data.path, args: ['--max-imports', '1'] })
      const imports = createImportsApi(server.url)
      await imports.run({ ...wantedOf('disk.qcow2'), name: 'finished' })
      await imports.post(wanted, key)
      await imports.create({ ...wanted, tag: '2' })
      await gated.held()
      ids.push(...(await imports.list()).map(({ id }) => id))
    }
    gated.open()
    await using server = await startDvcr({ data: data.path })
    const imports = createImportsApi(server.url)
    expect((await imports.list()).map(({ id }) => id)).toEqual(ids)
    const ends = await Promise.all(ids.map((id) => imports.finished(id)))
    expect(ends.map(({ state }) => state)).toEqual(['succeeded', 'succeeded', 'succeeded'])
    const again = await imports.post(wanted, key)
    expect(await again.json()).toMatchObject({ id: ids[1], state: 'succeeded' })
  })
})

it('dvcr serve told to stop does not wait for imports, which go on with the next start', async () => {
  await using data = await createTempFolder()
  await using gated = await startGatedSource(small)
  const server = await startDvcr({ data: data.path })
  const image = 'stopped:1'
  const command = startCommand(['import', gated.url, image, '--server', server.url])
  await gated.held()
  // The source is held for ever: waiting for the import would never end.
  expect(await server.stop()).toBe(0)
  const { exitCode, stderr } = await command.ended
  expect(exitCode).toBe(3)
  expect(stderr).toMatch(/TARGET_UNAVAILABLE: .* when the server is back: dvcr imports/)
  expect(await readStoreFolder(data.path)).toMatchObject({ orphans: [], uploads: [], scratch: [] })

  gated.open()
  await using next = await startDvcr({ data: data.path })
  const imports = createImportsApi(next.url)
  const [record] = await imports.list('?name=stopped')
  expect(await imports.finished(record?.id ?? '')).toMatchObject({ state: 'succeeded' })
  expect(await readVisible(next.url)).toEqual({ stopped: ['1'] })
})

it('dvcr import killed in a folder leaves nothing that the next command sees', async () => {
  await using data = await createTempFolder()
  const args = ['import', '-', 'killed:1', '--data', data.path]
  const half = small.subarray(0, small.length >> 1)
  const command = startCommand(args, { input: half })
  while ((await readStoreFolder(data.path)).uploads.length === 0) await sleep(20)
  command.kill('SIGKILL')
  expect((await command.ended).exitCode).toBeUndefined()
  expect((await readStoreFolder(data.path)).blobs).toEqual([])

  const listed = await dvcr(['images', '--data', data.path, '--json'])
  expect(listed).toMatchObject({ exitCode: 0, stdout: '[]' })
  const empty = { blobs: [], orphans: [], uploads: [], scratch: [] }
  expect(await readStoreFolder(data.path)).toMatchObject(empty)
  const imported = printedImport(await dvcr([...args, '--json'], { input: small }))
  expect(imported.virtualSize).toBe(small.length)
  const after = await readStoreFolder(data.path)
  expect(after).toMatchObject({ broken: [], orphans: [], uploads: [], scratch: [] })
})
