import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startMisbehavingServer, type MisbehavingServer } from '../fixtures/misbehaving.ts'
import { freePort } from '../fixtures/ports.ts'
import { startProgram } from '../fixtures/program.ts'
import { dvcrProgram, ready, startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startWebServer } from '../fixtures/web-server.ts'
import { dvcr } from './dvcr-command.ts'
import { createImportsApi } from './imports-api.ts'

const owned = new AsyncDisposableStack()
let folder: string
let source: MisbehavingServer

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  source = owned.use(await startMisbehavingServer(bootSectorDisk({ size: 1024 * 1024 })))
})
afterAll(() => owned.disposeAsync())

/** Serves all machines, and so needs no policy to be careful. */
async function startForAll(): Promise<RunningServer> {
  const port = await freePort()
  const data = join(folder, 'for-all')
  const args = ['serve', '--listen', `0.0.0.0:${port}`, '--data', data, '--insecure-no-auth']
  return ready(startProgram(dvcrProgram, args), `127.0.0.1:${port}`, '/readyz')
}

describe('a server that serves other machines', () => {
  it('does not import from its own network, and says so', async () => {
    await using server = await startForAll()
    expect(server.output()).toContain('"importPolicy":"restricted"')
    const refused = await createImportsApi(server.url).post({
      source: source.url('good'),
      name: 'inside',
    })
    expect(refused.status).toBe(403)
    expect(await refused.json()).toMatchObject({
      errors: [{ code: 'SOURCE_FORBIDDEN', message: expect.stringContaining('--import-policy') }],
    })
    const command = ['import', source.url('good'), 'inside', '--server', server.url]
    const outcome = await dvcr(command)
    expect(outcome).toMatchObject({ exitCode: 1 })
    expect(outcome.stderr).toContain('SOURCE_FORBIDDEN')
  })
})

describe('a server with a policy', () => {
  it('imports what a rule allows, and follows no redirect elsewhere', async () => {
    const args = ['--import-policy', 'restricted,+127.0.0.1']
    await using server = await startDvcr({ data: join(folder, 'ruled'), args })
    await using web = await startWebServer((_request, response) => {
      response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data' }).end()
    })
    const imports = createImportsApi(server.url)
    const good = await imports.run({ source: source.url('good'), name: 'good' })
    expect(good).toMatchObject({ state: 'succeeded' })
    expect(await imports.run({ source: web.origin, name: 'bad' })).toMatchObject({
      state: 'failed',
      attempts: 1,
      error: { code: 'SOURCE_FORBIDDEN', retryable: false },
    })
  })

  it('does not start with one that it does not understand', async () => {
    const args = ['serve', '--data', join(folder, 'wrong'), '--import-policy', 'open,10.0.0.0/8']
    const { exitCode, stderr } = await dvcr(args)
    expect(exitCode).toBe(2)
    expect(stderr).toContain('"10.0.0.0/8"; expected open or restricted')
  })
})
