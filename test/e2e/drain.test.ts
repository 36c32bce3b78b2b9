import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { createAuthority } from '../fixtures/certificates.ts'
import { connectTcp, readToEnd } from '../fixtures/tcp.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startTlsServer } from './tls-server.ts'

const host = 'host: localhost\r\n'
const octets = { 'content-type': 'application/octet-stream' }
const bytes = randomBytes(4 * 1024 * 1024)
const half = bytes.length / 2

const portOf = ({ url }: { readonly url: string }) => Number(new URL(url).port)

async function startUpload(server: RunningServer): Promise<string> {
  const started = await fetch(`${server.url}/v2/a/blobs/uploads/`, { method: 'POST' })
  return started.headers.get('location') ?? ''
}

async function takenBytes(server: RunningServer): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text()
  const [, taken = '0'] = /^dvcr_blob_bytes_total\{direction="in"\} (\d+)$/m.exec(text) ?? []
  return Number(taken)
}

/** A PUT of all bytes of which the server has the first half. */
async function beginPush(server: RunningServer, path: string): Promise<Socket> {
  const socket = await connectTcp(portOf(server))
  const target = `${path}?digest=${digestOf(bytes)}`
  socket.write(`PUT ${target} HTTP/1.1\r\n${host}content-length: ${bytes.length}\r\n\r\n`)
  socket.write(bytes.subarray(0, half))
  await expect.poll(() => takenBytes(server)).toBe(half)
  return socket
}

/** One request on a connection that stays open. */
async function ask(socket: Socket, path: string): Promise<string> {
  const answered = once(socket, 'data')
  socket.write(`GET ${path} HTTP/1.1\r\n${host}\r\n`)
  const [chunk]: Buffer[] = await answered
  return chunk?.toString() ?? ''
}

const refusesConnections = async (server: RunningServer) =>
  fetch(`${server.url}/healthz`).then(
    () => false,
    () => true,
  )

it('a server that is told to stop finishes what runs, takes nothing new, and ends', async () => {
  await using folder = await createTempFolder()
  await using server = await startDvcr({ data: folder.path, args: ['--drain', '60'] })
  const push = await beginPush(server, await startUpload(server))
  const probe = await connectTcp(portOf(server))
  probe.write('GET /readyz HTTP/1.1\r\n')
  const idle = await connectTcp(portOf(server))
  expect(await ask(idle, '/readyz')).toContain('200 OK')
  const stopped = server.stop()
  await expect.poll(() => refusesConnections(server)).toBe(true)
  expect(await readToEnd(idle)).toBe('')
  expect(server.isRunning()).toBe(true)
  const late = readToEnd(probe)
  probe.write(`${host}\r\n`)
  expect(await late).toMatch(/^HTTP\/1\.1 503 [^]*connection: close[^]*"code":"UNAVAILABLE"/i)
  const pushed = readToEnd(push)
  push.write(bytes.subarray(half))
  expect(await pushed).toMatch(/^HTTP\/1\.1 201 [^]*connection: close/i)
  expect(await stopped).toBe(0)
})

it('an upload that is cut at the end of the drain goes on with the next server', async () => {
  await using folder = await createTempFolder()
  let path: string
  {
    await using server = await startDvcr({ data: folder.path, args: ['--drain', '1'] })
    path = await startUpload(server)
    const push = await beginPush(server, path)
    const started = performance.now()
    const stopped = server.stop()
    expect(await readToEnd(push)).toBe('')
    expect(performance.now() - started).toBeGreaterThan(900)
    expect(await stopped).toBe(0)
  }
  await using next = await startDvcr({ data: folder.path })
  const status = await fetch(`${next.url}${path}`)
  expect(status.headers.get('range')).toBe(`0-${half - 1}`)
  const digest = digestOf(bytes)
  const finished = await fetch(`${next.url}${path}?digest=${digest}`, {
    method: 'PUT',
    headers: octets,
    body: bytes.subarray(half),
  })
  expect(finished.status).toBe(201)
  const pulled = await fetch(`${next.url}/v2/a/blobs/${digest}`)
  expect(Buffer.from(await pulled.arrayBuffer()).equals(bytes)).toBe(true)
})

it('a download goes on, and its connection is closed behind it', async () => {
  await using folder = await createTempFolder()
  await using server = await startDvcr({ data: folder.path, args: ['--drain', '60'] })
  const large = randomBytes(32 * 1024 * 1024)
  const push = { method: 'POST', headers: octets, body: large }
  const digest = digestOf(large)
  await fetch(`${server.url}/v2/a/blobs/uploads/?digest=${digest}`, push)
  const socket = await connectTcp(portOf(server))
  socket.write(`GET /v2/a/blobs/${digest} HTTP/1.1\r\n${host}\r\n`)
  await once(socket, 'readable')
  const stopped = server.stop()
  await expect.poll(() => refusesConnections(server)).toBe(true)
  const answer = Buffer.from(await readToEnd(socket), 'latin1')
  expect(answer.subarray(answer.indexOf('\r\n\r\n') + 4).equals(large)).toBe(true)
  expect(await stopped).toBe(0)
})

it('over HTTP/2 the running stream ends well, and the client is told to go away', async () => {
  await using folder = await createTempFolder()
  const authority = await createAuthority(folder.path)
  await using server = await startTlsServer({
    data: join(folder.path, 'data'),
    ca: authority.ca,
    files: await authority.issue('server'),
    args: ['--drain', '60'],
  })
  const session = await server.connect()
  const toldToGo = new Promise((told) => session.once('goaway', told))
  const path = `/v2/a/blobs/uploads/?digest=${digestOf(bytes)}`
  const push = session.request({ ':method': 'POST', ':path': path, ...octets })
  push.write(bytes.subarray(0, half))
  const answered = once(push, 'response')
  const taken = async () => (await server.curl('1.1', [`${server.url}/metrics`])).body
  await expect.poll(taken).toContain(`dvcr_blob_bytes_total{direction="in"} ${half}`)
  const stopped = server.stop()
  await toldToGo
  push.end(bytes.subarray(half))
  const [headers]: Record<string, unknown>[] = await answered
  expect(headers).toMatchObject({ ':status': 201 })
  push.resume()
  expect(await stopped).toBe(0)
})
