import { afterEach, beforeEach, expect, it } from 'vitest'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect } from 'node:http2'
import { connect as connectTcp, type Socket } from 'node:net'
import { createLog } from '../../core/log.ts'
import { createAuthority } from '../../test/fixtures/certificates.ts'
import { startRegistry, type RegistryServer } from '../../test/fixtures/registry-server.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { openTls } from './tls.ts'

let owned: AsyncDisposableStack
beforeEach(() => void (owned = new AsyncDisposableStack()))
afterEach(() => owned.disposeAsync())

const stallLimitMs = 400

it('a client that does not take its answer is cut off', async () => {
  const { path } = owned.use(await createTempFolder())
  const authority = await createAuthority(path)
  const files = { ...(await authority.issue('server')), clientCa: undefined }
  const options = { log: createLog('silent'), clientCertificates: 'offered' } as const
  const tls = owned.use(await openTls(files, options))
  const server = owned.use(await startRegistry({ tls, stallLimitMs }))
  const settings = { initialWindowSize: 0 }
  const session = connect(server.url, { ca: await readFile(authority.ca), settings })
  owned.defer(() => session.destroy())
  await once(session, 'remoteSettings')
  // The head is no part of what a window is for.
  const stream = session.request({ ':path': '/v2/a/tags/list' })
  expect((await once(stream, 'response'))[0]).toMatchObject({ ':status': 404 })
  await expect(once(stream, 'close')).rejects.toThrow('ENHANCE_YOUR_CALM')
})

it('one that takes them may be silent in between', async () => {
  const server: RegistryServer = owned.use(await startRegistry({ stallLimitMs }))
  const socket: Socket = connectTcp(server.port, '127.0.0.1')
  owned.defer(() => void socket.destroy())
  for (let round = 0; round < 3; round++) {
    socket.write('GET /v2/a/tags/list HTTP/1.1\r\nHost: localhost\r\n\r\n')
    expect(String((await once(socket, 'data'))[0])).toContain('404 Not Found')
    await new Promise((resolve) => setTimeout(resolve, 2 * stallLimitMs))
  }
})
