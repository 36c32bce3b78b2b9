import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startProxy } from '../fixtures/proxy-server.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startWebServer, type WebServer } from '../fixtures/web-server.ts'
import { dvcr } from './dvcr-command.ts'
import { createImportsApi } from './imports-api.ts'
import { printedImport } from './printed-import.ts'

const disk = bootSectorDisk({ size: 1024 * 1024 })
const secret = 'very-secret'
const owned = new AsyncDisposableStack()
let folder: string
let server: RunningServer
let web: WebServer

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  server = owned.use(await startDvcr({ data: join(folder, 'data') }))
  const basic = `Basic ${Buffer.from(`me:${secret}`).toString('base64')}`
  web = owned.use(
    await startWebServer((request, response) => {
      const { authorization, 'x-key': key } = request.headers
      const isKnown =
        authorization === basic || key === secret || authorization === `Bearer ${secret}`
      if (isKnown) response.writeHead(200, { 'content-length': disk.length }).end(disk)
      else response.writeHead(401).end()
    }),
  )
  for (const [name, text] of [
    ['password', `${secret}\n`],
    ['headers', `# for the images\nX-Key: ${secret}\n`],
  ]) {
    await writeFile(join(folder, name ?? ''), text ?? '')
  }
})
afterAll(() => owned.disposeAsync())

async function holdsSecret(path: string): Promise<boolean> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true })
  for (const entry of entries.filter((one) => one.isFile())) {
    const text = await readFile(join(entry.parentPath, entry.name), 'latin1')
    if (text.includes(secret)) return true
  }
  return false
}

describe('credentials of a source', () => {
  it('are taken from files and variables, by a server and without one', async () => {
    const password = ['--user', 'me', '--password-file', join(folder, 'password')]
    const headers = ['--headers-file', join(folder, 'headers')]
    for (const target of [
      ['--server', server.url],
      ['--data', join(folder, 'own')],
    ]) {
      const run = (args: readonly string[], env = {}) =>
        dvcr(['import', web.origin, 'a:1', '--replace', '--json', ...target, ...args], { env })
      expect((await run([])).stderr).toContain('SOURCE_DENIED')
      const first = printedImport(await run(password))
      expect(printedImport(await run(headers)).digest).toBe(first.digest)
      expect(printedImport(await run([], { DVCR_SOURCE_TOKEN: secret })).digest).toBe(first.digest)
      const env = { DVCR_SOURCE_PASSWORD: secret }
      expect(printedImport(await run(['--user', 'me'], env)).digest).toBe(first.digest)
      const wrong = await run([...password, '--token-file', join(folder, 'password')])
      expect(wrong.stderr).toContain('SOURCE_INVALID')
      expect(wrong.stderr).not.toContain(secret)
    }
  })

  it('are nowhere to be seen, not while it runs and not when it has ended', async () => {
    const api = createImportsApi(server.url)
    const credentials = { user: 'me', password: secret }
    const record = await api.run({ source: web.origin, name: 'seen', credentials })
    expect(record).toMatchObject({ state: 'succeeded' })
    const refused = await api.post({ source: web.origin, name: 'b', credentials: { secret } })
    expect(refused.status).toBe(400)
    const noCa = await api.post({ source: web.origin, name: 'b', ca: `-----BEGIN ${secret}` })
    expect([noCa.status, await noCa.text()]).toEqual([400, expect.not.stringContaining(secret)])
    const wrong = { source: web.origin.replace('//', `//me:${secret}@`), name: 'b', credentials }
    const texts = [
      JSON.stringify(record),
      await refused.text(),
      await (await api.post(wrong)).text(),
      await (await fetch(`${server.url}/v1/image/seen:latest`)).text(),
      await (await fetch(`${server.url}/metrics`)).text(),
      server.output(),
    ]
    for (const text of texts) expect(text).not.toContain(secret)
    await expect.poll(() => holdsSecret(join(folder, 'data'))).toBe(false)
  })
})

it('a mirror has what the source has not', async () => {
  await using gone = await startWebServer((_request, response) => response.writeHead(404).end())
  await using mirror = await startWebServer((_request, response) => response.end(disk))
  const mirrors = ['--mirror', `${gone.origin}/b`, '--mirror', mirror.origin]
  const command = ['import', `${gone.origin}/a`, 'mirrored:1', ...mirrors, '--json']
  for (const target of [
    ['--server', server.url],
    ['--data', join(folder, 'own')],
  ]) {
    expect(printedImport(await dvcr([...command, ...target])).virtualSize).toBe(disk.length)
  }
})

it('a proxy of the environment is asked by a server and by the command', async () => {
  await using open = await startWebServer((_request, response) => response.end(disk))
  await using proxy = await startProxy()
  const env = { http_proxy: proxy.origin }
  await using proxied = await startDvcr({ data: join(folder, 'proxied'), env })
  const source = `http://images.internal:${new URL(open.origin).port}/a`
  for (const target of [
    ['--server', proxied.url],
    ['--data', join(folder, 'own')],
  ]) {
    printedImport(await dvcr(['import', source, 'proxied:1', '--json', ...target], { env }))
  }
  expect(proxy.asked).toEqual([source, source])
})
