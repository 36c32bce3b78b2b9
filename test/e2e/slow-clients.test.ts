import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:http2'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { createLog } from '../../core/log.ts'
import { openTls } from '../../registry/http/tls.ts'
import { createAuthority } from '../fixtures/certificates.ts'
import { startRegistry, type RegistryServer } from '../fixtures/registry-server.ts'
import { connectTcp, readToEnd } from '../fixtures/tcp.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'

const octets = { 'content-type': 'application/octet-stream' }
const host = 'host: localhost\r\n'

/** Where a new upload goes on. */
async function startUpload(server: RegistryServer): Promise<string> {
  const started = await fetch(`${server.url}/v2/a/blobs/uploads/`, { method: 'POST' })
  return started.headers.get('location') ?? ''
}

/** Sends a piece every few milliseconds until the connection is gone. */
async function drip(socket: Socket, piece: string, everyMs: number): Promise<void> {
  while (!socket.closed && socket.writable) {
    socket.write(piece)
    await sleep(everyMs)
  }
}

async function pushBlob(server: RegistryServer, bytes: Uint8Array): Promise<string> {
  const digest = digestOf(bytes)
  const url = `${server.url}/v2/a/blobs/uploads/?digest=${digest}`
  const pushed = await fetch(url, { method: 'POST', headers: octets, body: Buffer.from(bytes) })
  expect(pushed.status).toBe(201)
  return `/v2/a/blobs/${digest}`
}

describe('headers', () => {
  it('that never end are answered with 408, however they drip', async () => {
    await using server = await startRegistry({ headersLimitMs: 300 })
    const socket = await connectTcp(server.port)
    socket.write(`GET /v2/ HTTP/1.1\r\n${host}`)
    void drip(socket, 'x-more: 1\r\n', 20)
    const answer = await readToEnd(socket)
    expect(answer).toMatch(/^HTTP\/1\.1 408 /)
    expect(answer).toContain('"code":"REQUEST_INVALID"')
  })

  it('that never come cost the connection', async () => {
    await using server = await startRegistry({ headersLimitMs: 300 })
    const sockets = await Promise.all(Array.from({ length: 20 }, () => connectTcp(server.port)))
    await Promise.all(sockets.map((socket) => readToEnd(socket)))
    await expect.poll(() => server.metric('dvcr_http_connections')).toBe(0)
  })

  it.each([40_000, 10_000_000])('of %i bytes are answered with 431', async (size) => {
    await using server = await startRegistry()
    const socket = await connectTcp(server.port)
    const reading = readToEnd(socket)
    socket.write(`GET /v2/ HTTP/1.1\r\n${host}x-large: `)
    socket.write(`${'x'.repeat(size)}\r\n\r\n`)
    const answer = await reading
    expect(answer).toMatch(/^HTTP\/1\.1 431 /)
    expect(answer).toContain('"code":"REQUEST_INVALID"')
    await expect.poll(() => server.metric('dvcr_http_connections')).toBe(0)
  })

  it('of 24 KiB, as some tokens take, are fine', async () => {
    await using server = await startRegistry()
    const headers = { authorization: `Bearer ${'x'.repeat(24 * 1024)}` }
    expect((await fetch(`${server.url}/v2/`, { headers })).status).toBe(200)
  })
})

describe('a body', () => {
  const limits = { stallLimitMs: 400, floorSpeed: 10_000 }

  it('below the floor speed is cut off, and what arrived is kept', async () => {
    await using server = await startRegistry(limits)
    const path = await startUpload(server)
    const socket = await connectTcp(server.port)
    socket.write(`PATCH ${path} HTTP/1.1\r\n${host}content-length: 1000000\r\n\r\n`)
    void drip(socket, 'x', 20)
    await readToEnd(socket)
    const range = async () => (await fetch(`${server.url}${path}`)).headers.get('range')
    await expect.poll(range).toMatch(/^0-[1-9]\d*$/)
    const slow = 'dvcr_http_requests_broken_total{reason="slow"}'
    await expect.poll(() => server.metric(slow)).toBe(1)
  })

  it('above the floor speed may take its time', async () => {
    await using server = await startRegistry(limits)
    const path = await startUpload(server)
    const bytes = randomBytes(60_000)
    const socket = await connectTcp(server.port)
    const target = `${path}?digest=${digestOf(bytes)}`
    socket.write(`PUT ${target} HTTP/1.1\r\n${host}content-length: ${bytes.length}\r\n`)
    socket.write('connection: close\r\n\r\n')
    const answer = readToEnd(socket)
    for (let at = 0; at < bytes.length; at += 1000) {
      socket.write(bytes.subarray(at, at + 1000))
      await sleep(20)
    }
    expect(await answer).toMatch(/^HTTP\/1\.1 201 /)
  })

  it('of JSON must be there in time', async () => {
    const addRoutes = (app: RegistryServer['app']) =>
      void app.post('/echo', (request) => request.body)
    await using server = await startRegistry({ ...limits, addRoutes })
    const socket = await connectTcp(server.port)
    socket.write(`POST /echo HTTP/1.1\r\n${host}content-type: application/json\r\n`)
    socket.write('content-length: 1000000\r\n\r\n[')
    void drip(socket, '1,'.repeat(1000), 20)
    expect(await readToEnd(socket)).toBe('')
  })

  it('that nobody asked for does not keep a connection', async () => {
    await using server = await startRegistry(limits)
    const socket = await connectTcp(server.port)
    socket.write(`GET /v2/ HTTP/1.1\r\n${host}content-length: 1000000\r\n\r\n`)
    void drip(socket, 'x', 20)
    expect(await readToEnd(socket)).toMatch(/^HTTP\/1\.1 200 /)
    await expect.poll(() => server.metric('dvcr_http_connections')).toBe(0)
  })
})

describe('a download', () => {
  const bytes = randomBytes(48 * 1024 * 1024)

  it.each([
    ['stands still', { stallLimitMs: 300, floorSpeed: 0 }, 0],
    ['is slower than the floor speed', { stallLimitMs: 1000, floorSpeed: 10_000_000 }, 50_000],
  ])('whose client %s is cut off', async (_how, limits, bytesPerRead) => {
    await using server = await startRegistry(limits)
    const path = await pushBlob(server, bytes)
    const socket = await connectTcp(server.port)
    socket.pause()
    socket.write(`GET ${path} HTTP/1.1\r\n${host}\r\n`)
    const broken = () => server.metric('dvcr_http_requests_broken_total{reason="slow"}')
    const deadline = performance.now() + 30_000
    while ((await broken()) === 0 && performance.now() < deadline) {
      if (bytesPerRead > 0) socket.read(bytesPerRead)
      await sleep(10)
    }
    socket.destroy()
    expect(await broken()).toBe(1)
    // The one that pushed is kept by its client.
    await expect.poll(() => server.metric('dvcr_http_connections')).toBe(1)
  })

  it('whose client reads on is complete', async () => {
    await using server = await startRegistry({ stallLimitMs: 500, floorSpeed: 100_000 })
    const path = await pushBlob(server, bytes)
    const response = await fetch(`${server.url}${path}`)
    let size = 0
    for await (const chunk of response.body ?? []) {
      size += chunk.length
      if (size % 7 === 0) await sleep(20)
    }
    expect(size).toBe(bytes.length)
  })
})

describe('over HTTP/2', () => {
  it('only the slow request is cut off, its connection goes on', async () => {
    await using folder = await createTempFolder()
    const authority = await createAuthority(folder.path)
    const pair = await authority.issue('server')
    const log = createLog('silent')
    using tls = await openTls(
      { ...pair, clientCa: undefined },
      { log, clientCertificates: 'offered' },
    )
    await using server = await startRegistry({ tls, stallLimitMs: 300, floorSpeed: 10_000 })
    const via = connect(server.url, { rejectUnauthorized: false })
    const start = via.request({ ':method': 'POST', ':path': '/v2/a/blobs/uploads/' })
    const [headers]: Record<string, unknown>[] = await once(start, 'response')
    const path = String(headers?.['location'])
    const slow = via.request({ ':method': 'PATCH', ':path': path, ...octets })
    slow.on('error', () => {})
    const closed = new Promise<void>((done) => slow.once('close', done))
    while (!slow.closed) {
      slow.write('x')
      await sleep(20)
    }
    await closed
    const keptRange = async () => {
      const next = via.request({ ':path': path })
      const [answer]: Record<string, unknown>[] = await once(next, 'response')
      return answer?.['range']
    }
    await expect.poll(keptRange).toMatch(/^0-[1-9]\d*$/)
    via.destroy()
  })
})

describe('connections', () => {
  it('beyond the limit are closed at once, and others go on', async () => {
    await using server = await startRegistry({ maxConnections: 2 })
    const first = await connectTcp(server.port)
    const second = await connectTcp(server.port)
    const third = await connectTcp(server.port)
    expect(await readToEnd(third)).toBe('')
    expect(await server.metric('dvcr_http_connections_refused_total')).toBe(1)
    second.destroy()
    await expect.poll(() => server.metric('dvcr_http_connections')).toBe(1)
    first.write(`GET /v2/ HTTP/1.1\r\n${host}connection: close\r\n\r\n`)
    expect(await readToEnd(first)).toMatch(/^HTTP\/1\.1 200 /)
  })

  it('that are half closed are answered or closed, never kept', async () => {
    await using server = await startRegistry({ headersLimitMs: 500 })
    const path = await startUpload(server)
    const requests = [
      '',
      'GET /v2/',
      `GET /v2/ HTTP/1.1\r\n${host}\r\n`,
      `PATCH ${path} HTTP/1.1\r\n${host}content-length: 100\r\n\r\nabc`,
      `PATCH ${path} HTTP/1.1\r\n${host}transfer-encoding: chunked\r\n\r\n5\r\nab`,
    ]
    for (const text of requests) {
      const socket = await connectTcp(server.port)
      const reading = readToEnd(socket)
      socket.end(text)
      await reading
    }
    await expect.poll(() => server.metric('dvcr_http_connections')).toBeLessThanOrEqual(1)
  })
})
