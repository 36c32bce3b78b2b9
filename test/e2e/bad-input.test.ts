import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { linkImages } from '../fixtures/images.ts'
import {
  refusingUrl,
  startMisbehavingServer,
  startSelfSignedServer,
  type Behaviour,
  type MisbehavingServer,
} from '../fixtures/misbehaving.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { writeDamagedImages } from './damaged-images.ts'
import { dvcr } from './dvcr-command.ts'
import { createImportsApi, readVisible, type ImportsApi } from './imports-api.ts'
import { readStoreFolder } from './store-folder.ts'

const body = bootSectorDisk({ size: 4 * 1024 * 1024 })
const failed = 1
const usage = 2
const retryable = 3

const owned = new AsyncDisposableStack()
let nginx: RunningServer
let server: RunningServer
let imports: ImportsApi
let misbehaving: MisbehavingServer
let data: string
let before: unknown

const readState = async () => ({
  visible: await readVisible(server.url),
  contents: await readStoreFolder(data),
})

beforeAll(async () => {
  const www = owned.use(await createTempFolder()).path
  await linkImages(www, 'boot-sector', ['raw', 'zstd.qcow2'])
  await writeDamagedImages(www)
  nginx = owned.use(await startNginx(www))
  misbehaving = owned.use(await startMisbehavingServer(body))
  data = owned.use(await createTempFolder()).path
  server = owned.use(await startDvcr({ data, args: ['--max-virtual-size', '64Mi'] }))
  imports = createImportsApi(server.url)
  const { state } = await imports.run({ source: `${nginx.url}/boot-sector.raw`, name: 'kept' })
  if (state !== 'succeeded') throw new Error(`the good import ended as ${state}`)
  before = await readState()
})
afterAll(() => owned.disposeAsync())

async function expectUnchanged(): Promise<void> {
  expect(await readState()).toEqual(before)
}

function importUrl(source: string, image: string, ...flags: readonly string[]) {
  return dvcr(['import', source, image, '--server', server.url, ...flags])
}

/** The import by the command and its record both fail so. */
async function expectFailure(
  source: string,
  { code, exitCode, flags = [] }: { code: string; exitCode: number; flags?: readonly string[] },
): Promise<string> {
  const { stderr, ...outcome } = await importUrl(source, 'bad:1', ...flags)
  expect(stderr).toMatch(new RegExp(`^dvcr: ${code}: `, 'm'))
  expect(outcome).toEqual({ exitCode, stdout: '' })
  const [record] = await imports.list('?name=bad&limit=1')
  expect(record).toMatchObject({ state: 'failed', error: { code } })
  expect(record?.error?.retryable).toBe(exitCode === retryable)
  expect(stderr).toContain(record?.error?.message)
  return record?.error?.message ?? ''
}

describe('an import that fails leaves nothing', () => {
  afterEach(expectUnchanged)

  it.each<[Behaviour, string, number, RegExp]>([
    ['not-found', 'SOURCE_NOT_FOUND', failed, /answered 404/],
    ['forbidden', 'SOURCE_DENIED', failed, /answered 403/],
    ['server-error', 'SOURCE_UNAVAILABLE', retryable, /answered 500/],
    ['login-page', 'FORMAT_UNKNOWN', failed, /HTML page/],
    ['empty', 'FORMAT_UNKNOWN', failed, /empty/],
    ['hundred-bytes', 'FORMAT_UNKNOWN', failed, /text file/],
    ['truncated', 'SOURCE_TRUNCATED', retryable, /2097152 of 4194304 bytes/],
    ['chunked-truncated', 'SOURCE_TRUNCATED', retryable, /broke after \d+ bytes/],
    ['reset', 'SOURCE_UNAVAILABLE', retryable, /closed|reset/],
    ['redirect-loop', 'SOURCE_INVALID', usage, /redirects more than/],
    ['cut-then-changed', 'SOURCE_CHANGED', failed, /changed while it was downloaded/],
  ])('from a server whose answer is %s: %s', async (behaviour, code, exitCode, why) => {
    const message = await expectFailure(misbehaving.url(behaviour), { code, exitCode })
    expect(message).toMatch(why)
  })

  it('where nothing listens', async () => {
    const source = await refusingUrl()
    const message = await expectFailure(source, { code: 'SOURCE_UNAVAILABLE', exitCode: retryable })
    expect(message).toContain('connection refused')
    expect(message).toContain(source)
  })

  it('from a host that is not in the DNS', async () => {
    const source = 'http://no-such-host.invalid/disk.raw'
    const message = await expectFailure(source, { code: 'SOURCE_UNAVAILABLE', exitCode: retryable })
    expect(message).toContain('DNS')
  })

  it('from a server with a certificate that nobody signed', async () => {
    await using selfSigned = await startSelfSignedServer(body)
    const source = selfSigned.url('good')
    const message = await expectFailure(source, { code: 'SOURCE_TLS_INVALID', exitCode: failed })
    expect(message).toContain('certificate')
    expect(selfSigned.requests('good')).toBe(0)
  })

  it.each([
    ['md5', 32],
    ['sha1', 40],
    ['sha256', 64],
    ['sha512', 128],
  ])('with another %s than expected', async (algorithm, digits) => {
    const flags = [`--${algorithm}`, '0'.repeat(digits)]
    const expected = { code: 'CHECKSUM_MISMATCH', exitCode: failed, flags }
    const message = await expectFailure(`${nginx.url}/boot-sector.zstd.qcow2`, expected)
    expect(message).toContain(algorithm)
  })

  it.each([
    ['garbage.gz', 'COMPRESSION_INVALID'],
    ['cut.raw.gz', 'COMPRESSION_INVALID'],
    ['cut.raw.xz', 'COMPRESSION_INVALID'],
    ['cut.raw.multi-block.xz', 'COMPRESSION_INVALID'],
    ['cut.raw.zst', 'COMPRESSION_INVALID'],
    ['short.raw.gz', 'COMPRESSION_INVALID'],
    ['short.raw.xz', 'COMPRESSION_INVALID'],
    ['short.raw.multi-block.xz', 'COMPRESSION_INVALID'],
    ['short.raw.zst', 'COMPRESSION_INVALID'],
    ['trailing.raw.gz', 'COMPRESSION_INVALID'],
    ['trailing.raw.xz', 'COMPRESSION_INVALID'],
    ['trailing.raw.multi-block.xz', 'COMPRESSION_INVALID'],
    ['trailing.raw.zst', 'COMPRESSION_INVALID'],
    ['flipped.raw.gz', 'COMPRESSION_INVALID'],
    ['flipped.raw.xz', 'COMPRESSION_INVALID'],
    ['flipped.raw.multi-block.xz', 'COMPRESSION_INVALID'],
    ['flipped.raw.zst', 'COMPRESSION_INVALID'],
    ['half.qcow2.gz', 'IMAGE_INCOMPLETE'],
  ])('of %s: %s', async (file, code) => {
    const message = await expectFailure(`${nginx.url}/${file}`, { code, exitCode: failed })
    expect(message).not.toContain('undefined')
  })

  it('to a tag that exists already', async () => {
    const outcome = await importUrl(`${nginx.url}/boot-sector.zstd.qcow2`, 'kept:latest')
    expect(outcome.exitCode).toBe(failed)
    expect(outcome.stderr).toContain('dvcr: TAG_EXISTS: kept:latest exists already')
    expect(outcome.stderr).toContain('--replace')
  })

  it.each([
    ['Upper/Case:1', 'NAME_INVALID', 'use lower case: upper/case'],
    [`bad:${'t'.repeat(129)}`, 'TAG_INVALID', 'at most 128 characters'],
    [`${'n'.repeat(256)}:1`, 'NAME_INVALID', 'at most 255 characters'],
  ])('to %.20s: %s', async (image, code, hint) => {
    const outcome = await importUrl(`${nginx.url}/boot-sector.raw`, image)
    expect(outcome.exitCode).toBe(usage)
    expect(outcome.stderr).toContain(`dvcr: ${code}: `)
    expect(outcome.stderr).toContain(hint)
  })

  it.each([
    [{ source: '/etc/passwd', name: 'bad' }, 'SOURCE_INVALID'],
    [{ source: 'file:///etc/passwd', name: 'bad' }, 'SOURCE_INVALID'],
    [{ source: 'ftp://127.0.0.1/x', name: 'bad' }, 'SOURCE_INVALID'],
    [{ source: 'http://127.0.0.1/x', name: 'Bad' }, 'NAME_INVALID'],
    [{ source: 'http://127.0.0.1/x', name: 'n'.repeat(256) }, 'NAME_INVALID'],
    [{ source: 'http://127.0.0.1/x', name: 'bad', tag: 't'.repeat(129) }, 'TAG_INVALID'],
    [{ source: 'http://127.0.0.1/x', name: 'bad', tag: '.dot' }, 'TAG_INVALID'],
    [{ source: 'http://127.0.0.1/x' }, 'REQUEST_INVALID'],
    [{ source: 'http://127.0.0.1/x', name: 'bad', sum: '1' }, 'REQUEST_INVALID'],
    [{ source: 'http://127.0.0.1/x', name: 'bad', checksums: { md5: '1' } }, 'REQUEST_INVALID'],
  ])('asked of the API: case %#, %2$s', async (request, code) => {
    const response = await imports.post(request)
    expect(await response.json()).toMatchObject({ errors: [{ code }] })
    expect(response.status).toBe(400)
  })

  it('from a file that is not there, or is a folder', async () => {
    const folder = join(data, '..', 'no-such-folder')
    const missing = await importUrl(join(folder, 'disk.raw'), 'bad:1')
    expect(missing).toMatchObject({ exitCode: failed, stdout: '' })
    expect(missing.stderr).toContain('dvcr: SOURCE_NOT_FOUND: ')
    const notFile = await importUrl(data, 'bad:1')
    expect(notFile.exitCode).not.toBe(0)
    expect(notFile.stderr).toMatch(/^dvcr: SOURCE_\w+: /m)
  })
})
