import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { passwords, robotToken } from '../fixtures/access-server.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startWebServer, type WebServer } from '../fixtures/web-server.ts'
import { startAuthServer } from './auth-setup.ts'
import { dvcr } from './dvcr-command.ts'
import { printedImport } from './printed-import.ts'

const disk = bootSectorDisk({ size: 1024 * 1024 })
const sha256 = createHash('sha256').update(disk).digest('hex')
const checked = { checksums: { sha256 } }
const owned = new AsyncDisposableStack()
let folder: string
let server: RunningServer
let web: WebServer

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  server = owned.use(await startDvcr({ data: join(folder, 'data') }))
  web = owned.use(await startWebServer((_request, response) => void response.end(disk)))
})
afterAll(() => owned.disposeAsync())

it('what is in a registry already is not transferred again, with a server and without', async () => {
  for (const target of [
    ['--server', server.url],
    ['--data', join(folder, 'own')],
  ]) {
    const run = async (source: string, ...args: string[]) =>
      printedImport(await dvcr(['import', source, ...args, '--json', ...target]))
    const before = web.requests.length
    const first = await run(web.origin, 'a:1', '--sha256', sha256)
    const second = await run(`${web.origin}/elsewhere`, 'team/b:1', '--sha256', sha256)
    expect(web.requests.length).toBe(before + 1)
    expect(second).toMatchObject({ layerDigest: first.layerDigest, sourceBytes: 0 })
    const third = await run('image:a:1', 'team/c:1')
    expect(third).toMatchObject({ digest: first.digest, sourceBytes: 0 })
    const fsck = await dvcr(['registry', 'fsck', ...target])
    expect(fsck).toMatchObject({ exitCode: 0 })
  }
})

describe('where callers have rights', () => {
  it('only images that they may pull are used', async () => {
    await using guarded = await startAuthServer()
    const asCi = `Basic ${Buffer.from(`ci:${robotToken}`).toString('base64')}`
    const asAlice = `Basic ${Buffer.from(`alice:${passwords.alice}`).toString('base64')}`
    const post = async (authorization: string, name: string, source: string) => {
      const headers = { 'content-type': 'application/json', authorization }
      const answer = await fetch(`${guarded.url}/v1/imports`, {
        method: 'POST',
        headers,
        body: JSON.stringify({ name, source, ...(source === web.origin && checked) }),
      })
      const text = await answer.text()
      const read = async (): Promise<unknown> => {
        const at = `${guarded.url}/v1/imports/${JSON.parse(text).id}`
        return (await fetch(at, { headers })).json()
      }
      return { status: answer.status, text, read }
    }
    const run = async (authorization: string, name: string, source: string): Promise<void> => {
      const { read } = await post(authorization, name, source)
      await expect.poll(read).toMatchObject({ state: 'succeeded' })
    }
    await run(asCi, 'private/a', web.origin)
    const before = web.requests.length
    const refused = await post(asAlice, 'team-a/x', 'image:private/a:latest')
    expect(refused.status).toBe(403)
    expect(refused.text).toContain('pull on private/a')
    await run(asAlice, 'team-a/x', web.origin)
    expect(web.requests.length).toBe(before + 1)
    await run(asAlice, 'team-a/y', web.origin)
    await run(asAlice, 'team-a/z', 'image:team-a/x:latest')
    await run(asCi, 'private/b', web.origin)
    expect(web.requests.length).toBe(before + 1)
  })
})
