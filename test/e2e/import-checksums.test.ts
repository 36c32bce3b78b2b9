import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startWebServer } from '../fixtures/web-server.ts'
import { dvcr } from './dvcr-command.ts'
import { createImportsApi } from './imports-api.ts'
import { printedImport } from './printed-import.ts'

const disk = bootSectorDisk({ size: 1024 * 1024 })
const hex = (algorithm: string): string => createHash(algorithm).update(disk).digest('hex')
const owned = new AsyncDisposableStack()
let folder: string
let server: RunningServer

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  server = owned.use(await startDvcr({ data: join(folder, 'data') }))
})
afterAll(() => owned.disposeAsync())

it('a list of checksums is found by name, compared, and kept with the image', async () => {
  const sums = `${hex('sha256')}  disk v1.raw\nSHA512 (disk v1.raw) = ${hex('sha512')}\n`
  await using web = await startWebServer((request, response) => {
    response.end(request.url === '/SHA256SUMS' ? sums : disk)
  })
  const source = [`${web.origin}/a/disk%20v1.raw`, 'listed:1', '--json']
  const list = ['--checksums-url', `${web.origin}/SHA256SUMS`, '--md5', hex('md5')]
  for (const target of [
    ['--server', server.url],
    ['--data', join(folder, 'own')],
  ]) {
    const { digest } = printedImport(await dvcr(['import', ...source, ...list, ...target]))
    const inspected = await dvcr(['inspect', `listed@${digest}`, '--json', ...target])
    expect(JSON.parse(inspected.stdout)).toMatchObject({
      annotations: {
        'io.dvcr.source.md5': hex('md5'),
        'io.dvcr.source.sha256': hex('sha256'),
        'io.dvcr.source.sha512': hex('sha512'),
      },
    })
  }
})

it('a list that is wrong, contradicts, is missing or endless ends the import', async () => {
  await using web = await startWebServer((request, response) => {
    const wrong = `${'0'.repeat(64)}  disk.raw\n`
    if (request.url === '/wrong') response.end(wrong)
    else if (request.url === '/none') response.writeHead(404).end()
    else if (request.url === '/endless') {
      const more = (): void =>
        void response.write(Buffer.alloc(65_536, '\n'), (error) => error ?? more())
      more()
    } else response.end(disk)
  })
  const imports = createImportsApi(server.url)
  const codeOf = async (list: string, checksums = {}) =>
    (
      await imports.run({
        source: `${web.origin}/disk.raw`,
        name: 'wrong',
        checksumsUrl: `${web.origin}/${list}`,
        checksums,
      })
    ).error?.code
  expect(await codeOf('wrong')).toBe('CHECKSUM_MISMATCH')
  const before = web.requests.length
  expect(await codeOf('wrong', { sha256: hex('sha256') })).toBe('CHECKSUM_MISMATCH')
  expect(web.requests.length).toBe(before + 1)
  expect(await codeOf('none')).toBe('SOURCE_NOT_FOUND')
  expect(await codeOf('endless')).toBe('SOURCE_INVALID')
})
