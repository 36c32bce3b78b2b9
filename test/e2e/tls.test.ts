import { copyFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createAuthority, type Authority, type CertifiedKey } from '../fixtures/certificates.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startTlsServer, type HttpVersion, type TlsServer } from './tls-server.ts'

const owned = new AsyncDisposableStack()
let folder: string
let authority: Authority
let server: TlsServer
/** The files that the server was told; their contents change. */
let files: CertifiedKey

/** Puts another pair in place, as who renews certificates does. */
async function install({ cert, key }: CertifiedKey): Promise<void> {
  for (const [from, to] of [
    [cert, files.cert],
    [key, files.key],
  ] as const) {
    await copyFile(from, `${to}.new`)
    await rename(`${to}.new`, to)
  }
}

/** Common name of the certificate that new connections see. */
async function servedName(): Promise<string> {
  const { hostname: host, port } = new URL(server.url)
  const socket = connect({ host, port: Number(port), rejectUnauthorized: false })
  await new Promise((secured) => socket.once('secureConnect', secured))
  const { subject } = socket.getPeerCertificate()
  socket.destroy()
  return String(subject.CN)
}

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  authority = await createAuthority(folder)
  files = { cert: join(folder, 'served.pem'), key: join(folder, 'served.key') }
  await install(await authority.issue('first'))
  const data = join(folder, 'data')
  server = owned.use(await startTlsServer({ data, ca: authority.ca, files }))
})
afterAll(() => owned.disposeAsync())

describe('a server with a certificate', () => {
  it.each<HttpVersion>(['1.1', '2'])('speaks HTTP/%s', async (version) => {
    const answer = await server.curl(version, [`${server.url}/v2/`])
    expect(answer).toMatchObject({ status: 200, version, body: '{}' })
  })

  it('says that it serves https', () => {
    expect(server.output()).toContain(`dvcr serves ${server.url}`)
  })

  it('does not answer in clear, and stays', async () => {
    const clear = await server.curl('1.1', [server.url.replace('https', 'http')])
    expect(clear.status).toBe(0)
    expect((await server.curl('2', [`${server.url}/healthz`])).status).toBe(200)
  })

  it('uses new files as soon as they are there, and keeps connections', async () => {
    const session = owned.adopt(await server.connect(), (open) => open.destroy())
    expect(await servedName()).toBe('first')
    await install(await authority.issue('second'))
    await expect.poll(servedName, { timeout: 30_000, interval: 200 }).toBe('second')
    const stream = session.request({ ':path': '/v2/' })
    const status = await new Promise((resolve) =>
      stream.once('response', (headers) => resolve(headers[':status'])),
    )
    expect(status).toBe(200)
    stream.close()
  })

  it('keeps the old pair where the new one does not work, and says so', async () => {
    const before = await servedName()
    await writeFile(files.key, 'not a key')
    process.kill(server.pid, 'SIGHUP')
    await expect.poll(server.output, { timeout: 30_000 }).toContain('the old ones stay in use')
    expect(await servedName()).toBe(before)
    await install(await authority.issue('third'))
    process.kill(server.pid, 'SIGHUP')
    await expect.poll(servedName, { timeout: 30_000 }).toBe('third')
  })

  it('shows in its metrics when the certificate ends', async () => {
    const { body } = await server.curl('2', [`${server.url}/metrics`])
    const [, value] = /^dvcr_tls_certificate_expiry_timestamp_seconds (\S+)$/m.exec(body) ?? []
    expect(Number(value) * 1000).toBeGreaterThan(Date.now() + 24 * 60 * 60 * 1000)
    expect(Number(value) * 1000).toBeLessThan(Date.now() + 3 * 24 * 60 * 60 * 1000)
  })
})

describe('a server that asks clients for certificates', () => {
  it('answers only those that its authority has signed', async () => {
    const known = await createAuthority(folder, 'clients')
    const client = await known.issue('builder')
    const stranger = await authority.issue('stranger')
    await using strict = await startTlsServer({
      data: join(folder, 'strict'),
      ca: authority.ca,
      files: await authority.issue('strict'),
      args: ['--tls-client-ca', known.ca],
      client,
    })
    const get = async (version: HttpVersion, shown: CertifiedKey | undefined) => {
      const pair = shown ? ['--cert', shown.cert, '--key', shown.key] : []
      return (await strict.curl(version, [...pair, `${strict.url}/v2/`])).status
    }
    for (const version of ['1.1', '2'] as const) {
      expect(await get(version, client)).toBe(200)
      expect(await get(version, stranger)).toBe(0)
      expect(await get(version, undefined)).toBe(0)
    }
  })
})
