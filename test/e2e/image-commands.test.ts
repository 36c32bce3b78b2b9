import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { imageRecordSchema } from '../../importer/images.ts'
import { importRecordSchema } from '../../importer/import-record.ts'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startMisbehavingServer, type MisbehavingServer } from '../fixtures/misbehaving.ts'
import { freePort } from '../fixtures/ports.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { dvcr, dvcrUnread, startCommand } from './dvcr-command.ts'
import { startGatedSource } from './gated-source.ts'
import { createImportsApi, readVisible } from './imports-api.ts'
import { printedImport } from './printed-import.ts'
import { readStoreFolder } from './store-folder.ts'

const body = bootSectorDisk({ size: 1024 * 1024 })
const owned = new AsyncDisposableStack()
let server: RunningServer
let source: MisbehavingServer
let served: string
let folder: string
let file: string

beforeAll(async () => {
  served = owned.use(await createTempFolder()).path
  folder = owned.use(await createTempFolder()).path
  file = join(owned.use(await createTempFolder()).path, 'boot.raw')
  await writeFile(file, body)
  server = owned.use(await startDvcr({ data: served }))
  source = owned.use(await startMisbehavingServer(body))
})
afterAll(() => owned.disposeAsync())

describe.each(['a server', 'a folder'])('on %s', (kind) => {
  const run = (...args: readonly string[]) =>
    dvcr([...args, ...(kind === 'a server' ? ['--server', server.url] : ['--data', folder])])
  const images = async (...args: readonly string[]) => {
    const { stdout } = await run('images', ...args, '--json')
    return z.array(imageRecordSchema).parse(JSON.parse(stdout))
  }

  it('images are imported, listed, inspected, tagged and removed', async () => {
    const fromFile = printedImport(await run('import', file, 'os/boot:1', '--json'))
    const fromUrl = await run('import', source.url('good'), 'os/boot:url')
    expect(fromUrl.exitCode).toBe(0)
    expect(fromUrl.stdout).toMatch(/^os\/boot:url\n {2}format +raw, stored as qcow2\n/)
    expect(fromUrl.stderr).toContain('transfer')

    const listed = await run('images')
    expect(listed.stdout).toMatch(/^IMAGE +FORMAT +VIRTUAL SIZE +STORED +DIGEST\n/)
    expect(listed.stdout).toMatch(/^os\/boot:1 +raw +1\.00 MiB +\S+ \S+ +sha256:[0-9a-f]{12}$/m)
    const tags = async () => (await images('os/boot')).map(({ tag }) => tag)
    expect(await tags()).toEqual(['1', 'url'])

    const inspected = await run('inspect', 'os/boot:1', '--json')
    const record = imageRecordSchema.parse(JSON.parse(inspected.stdout))
    expect(record).toMatchObject({ digest: fromFile.digest, virtualSize: body.length })
    expect((await run('inspect', `os/boot@${fromFile.digest}`)).stdout).toContain(fromFile.digest)
    const shown = (await run('inspect', 'os/boot:url')).stdout
    expect(shown).toMatch(/^firmware +bios$/m)
    expect(shown).toMatch(/^PARTITION +TYPE +START +SIZE +FILE SYSTEM +LABEL +UUID$/m)
    expect(shown).toMatch(/^1 +0x83 +512 B +1023\.5\d* KiB +- +- +-$/m)

    const tagged = await run('tag', 'os/boot:1', 'stable')
    expect(tagged.stdout).toBe(`os/boot:stable is ${fromFile.digest}`)
    const taken = await run('tag', 'os/boot:url', 'stable')
    expect(taken).toMatchObject({ exitCode: 1, stdout: '' })
    expect(taken.stderr).toContain('dvcr: TAG_EXISTS: ')
    expect((await run('tag', 'os/boot:url', 'stable', '--replace')).exitCode).toBe(0)

    expect((await run('rm', 'os/boot:stable')).stdout).toBe('removed os/boot:stable')
    expect(await tags()).toEqual(['1', 'url'])
    expect((await run('rm', `os/boot@${fromFile.digest}`)).exitCode).toBe(0)
    expect(await tags()).toEqual(['url'])
  })

  it('the content of an image is computed and compared', async () => {
    const ours = printedImport(await run('import', file, 'content/ours:1', '--json'))
    await run('import', file, 'content/raw:1', '--store', 'as-is', '--arch', 'arm64')
    const read = await run('inspect', 'content/ours:1', '--content')
    expect(read).toMatchObject({ exitCode: 0 })
    expect(read.stdout).toContain(`${ours.contentDigest} (as the image says)\n`)
    const { stdout } = await run('inspect', 'content/raw:1', '--content', '--json')
    expect(JSON.parse(stdout)).toMatchObject({
      architecture: 'arm64',
      content: { format: 'raw', virtualSize: body.length, contentDigest: ours.contentDigest },
    })
  })

  it('imports are listed, failed ones with the reason', async () => {
    await run('import', source.url('not-found'), 'failed:1')
    const { stdout } = await run('imports')
    expect(stdout).toMatch(/^ID +STARTED +IMAGE +STATE +PROGRESS +SOURCE +ERROR\n/)
    expect(stdout).toMatch(/ failed:1 +failed .* SOURCE_NOT_FOUND: /)
    const json = await run('imports', '--json')
    const [newest] = z.array(importRecordSchema).parse(JSON.parse(json.stdout))
    expect(newest).toMatchObject({ name: 'failed', source: source.url('not-found') })
  })

  it.each([
    [['inspect', 'none:1'], 1, 'IMAGE_UNKNOWN'],
    [['rm', 'none:1'], 1, 'IMAGE_UNKNOWN'],
    [['tag', 'none:1', 'x'], 1, 'IMAGE_UNKNOWN'],
    [['tag', 'none:1', '.x'], 2, 'TAG_INVALID'],
    [['inspect', 'None:1'], 2, 'NAME_INVALID'],
    [['images', 'None'], 2, 'NAME_INVALID'],
    [['import', 'http://127.0.0.1/x', 'a:1', '--sha256', 'short'], 2, 'REQUEST_INVALID'],
    [['import', 'ftp://127.0.0.1/x', 'a:1'], 2, 'SOURCE_INVALID'],
  ])('%j fails with %i and %s', async (args, exitCode, code) => {
    const outcome = await run(...args)
    expect(outcome).toMatchObject({ exitCode, stdout: '' })
    expect(outcome.stderr).toMatch(new RegExp(`^dvcr: ${code}: [^\n]+$`))
  })
})

it('an image that says another content than it has is damage', async () => {
  await dvcr(['import', file, 'liar:1', '--server', server.url])
  const manifests = `${server.url}/v2/liar/manifests`
  const type = 'application/vnd.oci.image.manifest.v1+json'
  const honest = await (await fetch(`${manifests}/1`, { headers: { accept: type } })).text()
  const said = `sha256:${'0'.repeat(64)}`
  const terminal = '\\u001b[2J'
  const body = honest
    .replace(/("io.dvcr.content-digest":")[^"]+/, `$1${said}`)
    .replace(/("io.dvcr.source":")/, `$1${terminal}`)
  const put = { method: 'PUT', headers: { 'content-type': type }, body }
  expect((await fetch(`${manifests}/2`, put)).status).toBe(201)
  const outcome = await dvcr(['inspect', 'liar:2', '--content', '--server', server.url])
  expect(outcome.exitCode).not.toBe(0)
  expect(outcome.stderr).toMatch(new RegExp(`DAMAGE_FOUND: liar:2 says .*${said}`))
  expect(outcome.stdout).toMatch(/^content +sha256:[0-9a-f]{64} \(NOT as the image says\)$/m)
  expect(outcome.stdout).not.toContain('\u001b')
})

it('the same source is the same image on a server and in a folder', async () => {
  const url = source.url('good')
  const there = await dvcr(['import', url, 'same:1', '--server', server.url, '--json'])
  const here = await dvcr(['import', url, 'same:1', '--data', folder, '--json'])
  expect(printedImport(here).digest).toBe(printedImport(there).digest)
})

it.each([
  ['images', ['images']],
  ['an import', ['import', 'http://127.0.0.1/x', 'a:1']],
  ['a second server', ['serve', '--listen', '127.0.0.1:0']],
])('a folder in use is refused to %s, which is told by whom', async (_what, args) => {
  const outcome = await dvcr([...args, '--data', served])
  expect(outcome).toMatchObject({ exitCode: 3, stdout: '' })
  expect(outcome.stderr).toContain('dvcr: STORE_LOCKED: ')
  expect(outcome.stderr).toContain(`process ${server.pid} `)
})

it('a reader that stops reading is no failure', async () => {
  const listing = ['images', '--json', '--server', server.url]
  for (const args of [['--version'], ['serve', '--help'], listing]) {
    expect(await dvcrUnread(args)).toEqual({ exitCode: 0, stderr: '' })
  }
})

it('a server that is not there is reported with the next step', async () => {
  const url = `http://127.0.0.1:${await freePort()}`
  for (const args of [['images'], ['imports'], ['import', source.url('good'), 'a:1']]) {
    const outcome = await dvcr([...args, '--server', url])
    expect(outcome).toMatchObject({ exitCode: 3, stdout: '' })
    expect(outcome.stderr).toMatch(/^dvcr: TARGET_UNAVAILABLE: .*dvcr serve/)
  }
})

it.each([
  [['--help'], 0],
  [['serve', '--help'], 0],
  [['unknown'], 2],
  [['import', 'only-one-argument'], 2],
  [['images', '--server', 'not a url'], 2],
  [['serve', '--listen', 'nowhere'], 2],
  [['serve', '--listen', '0.0.0.0:0', '--data', '/nonexistent'], 2],
])('%j ends with %i', async (args, exitCode) => {
  const outcome = await dvcr(args)
  expect(outcome.exitCode).toBe(exitCode)
  expect((exitCode === 0 ? outcome.stdout : outcome.stderr).length).toBeGreaterThan(20)
})

it.each(['SIGINT', 'SIGTERM'] as const)(
  '%s ends an import by a server and cancels it',
  async (signal) => {
    await using gated = await startGatedSource(body)
    const name = `stopped/${signal.toLowerCase()}`
    const args = ['import', gated.url, `${name}:1`, '--server', server.url]
    const command = startCommand(args)
    await gated.held()
    command.kill(signal)
    await gated.left()
    const { exitCode, stderr } = await command.ended
    expect(exitCode).toBe(130)
    expect(stderr).toContain('dvcr: interrupted')
    const [record] = await createImportsApi(server.url).list(`?name=${name}`)
    expect(record?.state).toBe('cancelled')
    expect(await readVisible(server.url)).not.toHaveProperty(name)
  },
)

it('Ctrl-C during an import into a folder leaves the folder as it was', async () => {
  const before = await readStoreFolder(folder)
  await using gated = await startGatedSource(body)
  const args = ['import', gated.url, 'stopped:1', '--data', folder]
  const command = startCommand(args)
  await gated.held()
  command.kill('SIGINT')
  await gated.left()
  expect((await command.ended).exitCode).toBe(130)
  expect(await readStoreFolder(folder)).toEqual(before)
})

it('imports are held, repeated and ended', async () => {
  const run = (...args: readonly string[]) => dvcr([...args, '--server', server.url])
  await run('import', source.url('not-found'), 'again:1')
  const json = await run('imports', '--json')
  const [newest] = z.array(importRecordSchema).parse(JSON.parse(json.stdout))
  const id = newest?.id ?? ''
  expect((await run('imports', 'retry', id)).stdout).toMatch(
    new RegExp(`\n${id} .* again:1 +queued `),
  )
  await expect.poll(async () => (await run('imports', 'pause', id)).stdout).toMatch(/ failed /)
  const cancelled = await run('imports', 'cancel', id, '--json')
  expect(JSON.parse(cancelled.stdout)).toMatchObject({ id, state: 'failed' })
  const unknown = await run('imports', 'retry', '00000000-0000-0000-0000-000000000000')
  expect(unknown).toMatchObject({ exitCode: 1 })
  expect(unknown.stderr).toContain('IMPORT_UNKNOWN')
  const folder = await dvcr(['imports', 'cancel', id, '--data', 'anywhere'])
  expect(folder).toMatchObject({ exitCode: 2 })
  expect(folder.stderr).toContain('REQUEST_INVALID')
})
