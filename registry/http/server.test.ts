import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { createHashPool } from '../../core/hash-pool.ts'
import { createLog } from '../../core/log.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import type { GuardMode } from './guard.ts'
import { createMetrics } from '../metrics.ts'
import { createServer } from './server.ts'
import { openStore } from '../store.ts'

const octets = { 'content-type': 'application/octet-stream' }

interface RunOptions {
  readonly path?: string
  readonly guard?: GuardMode
  readonly stallLimitMs?: number
}

async function run({ path, guard = 'loopback', stallLimitMs = 60_000 }: RunOptions = {}) {
  await using stack = new AsyncDisposableStack()
  const log = createLog('silent')
  const root = path ?? stack.use(await createTempFolder()).path
  const hashPool = stack.use(createHashPool({ threads: 1 }))
  const store = stack.use(await openStore(root, { hashPool, log }))
  const metrics = createMetrics()
  const app = createServer({ store, log, metrics, guard, stallLimitMs, drainMs: 100 })
  stack.defer(() => app.close())
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const owned = stack.move()
  return { store, url, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

type Headers = Readonly<Record<string, string>>

/** A request that sends `body` and, with `endless`, never comes to the end of it. */
async function send(
  url: string,
  options: { method: string; headers?: Headers; body?: Uint8Array; endless?: boolean },
): Promise<{ readonly status: number; readonly code: unknown; readonly continued: boolean }> {
  const { method, headers = {}, body, endless = false } = options
  const request = httpRequest(url, { method, headers })
  let continued = false
  request.on('continue', () => (continued = true))
  // The server closes the connection behind its answer.
  request.on('error', () => {})
  const answered = once(request, 'response')
  if (body) request.write(body)
  else request.flushHeaders()
  if (!endless) request.end()
  const [response]: IncomingMessage[] = await answered
  if (!response) throw new Error('no response')
  const chunks: Buffer[] = await response.toArray()
  request.destroy()
  const json: unknown = JSON.parse(Buffer.concat(chunks).toString() || '{}')
  const code: unknown = Object(Object(json).errors?.[0]).code
  return { status: response.statusCode ?? 0, code, continued }
}

async function connectTo(url: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

async function startUpload(url: string): Promise<string> {
  const started = await fetch(`${url}/v2/a/blobs/uploads/`, { method: 'POST' })
  return `${url}${started.headers.get('location')}`
}

describe('a server without authentication', () => {
  it('answers only for this machine', async () => {
    await using server = await run()
    const ping = (host: string) => send(`${server.url}/v2/`, { method: 'GET', headers: { host } })
    expect((await ping('localhost:1234')).status).toBe(200)
    expect(await ping('registry.example')).toMatchObject({ status: 421, code: 'DENIED' })
    const health = send(`${server.url}/healthz`, { method: 'GET', headers: { host: 'x.example' } })
    expect(await health).toMatchObject({ status: 421, code: 'HOST_REFUSED' })
  })

  it('answers for any host where told to, but still not for foreign pages', async () => {
    await using server = await run({ guard: 'any-host' })
    const headers = { host: 'registry.example' }
    const ping = (more: Headers) =>
      send(`${server.url}/v2/`, { method: 'GET', headers: { ...headers, ...more } })
    expect((await ping({})).status).toBe(200)
    expect((await ping({ origin: 'https://registry.example' })).status).toBe(200)
    expect((await ping({ origin: 'https://evil.example' })).status).toBe(403)
    expect((await ping({ origin: 'null' })).status).toBe(403)
  })

  it('takes no bodies that a form can send', async () => {
    await using server = await run()
    const url = `${server.url}/v2/a/blobs/uploads/?digest=${digestOf(Buffer.from('x'))}`
    const post = (headers: Headers) =>
      send(url, { method: 'POST', headers, body: Buffer.from('x') })
    for (const type of ['application/x-www-form-urlencoded', 'text/plain', 'multipart/form-data']) {
      expect(await post({ 'content-type': type })).toMatchObject({ status: 415 })
    }
    expect((await post(octets)).status).toBe(201)
    expect((await post({})).status).toBe(201)
  })
})

describe('a refused body', () => {
  it('is answered while the client still sends, however much there is to come', async () => {
    await using server = await run()
    const answer = await send(`${server.url}/v2/UPPER/blobs/uploads/?digest=sha256:x`, {
      method: 'POST',
      headers: { ...octets, 'content-length': '100000000000' },
      body: randomBytes(1_000_000),
      endless: true,
    })
    expect(answer).toMatchObject({ status: 400, code: 'NAME_INVALID' })
  })

  it('is not asked for where the client waits for 100 Continue', async () => {
    await using server = await run()
    const headers = { ...octets, expect: '100-continue', 'content-length': '1000000' }
    const refused = await send(`${server.url}/v2/UPPER/blobs/uploads/?digest=sha256:x`, {
      method: 'POST',
      headers,
      endless: true,
    })
    expect(refused).toMatchObject({ status: 400, continued: false })
  })

  it('is refused before the first byte where the storage has no room for it', async () => {
    await using server = await run()
    const answer = await send(await startUpload(server.url), {
      method: 'PATCH',
      headers: { ...octets, 'content-length': String(Number.MAX_SAFE_INTEGER) },
      endless: true,
    })
    expect(answer).toMatchObject({ status: 507, code: 'STORAGE_FULL' })
  })
})

describe('an interrupted upload', () => {
  it('goes on with a new server where the old one was cut off', async () => {
    await using folder = await createTempFolder()
    const bytes = randomBytes(2_000_000)
    let path: string
    {
      await using server = await run({ path: folder.path })
      const location = await startUpload(server.url)
      path = new URL(location).pathname
      const socket = await connectTo(server.url)
      socket.write(`PATCH ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000000\r\n\r\n`)
      await new Promise((sent) => socket.write(bytes.subarray(0, 1_500_000), sent))
      socket.destroy()
      while ((await fetch(location)).headers.get('range') === '0-0') await sleep(10)
    }
    await using server = await run({ path: folder.path })
    const status = await fetch(`${server.url}${path}`)
    const offset = Number(status.headers.get('range')?.split('-')[1]) + 1
    expect(offset).toBeGreaterThan(1)
    expect(offset).toBeLessThanOrEqual(1_500_000)
    const digest = digestOf(bytes)
    const finished = await fetch(`${server.url}${path}?digest=${digest}`, {
      method: 'PUT',
      headers: { ...octets, 'content-range': `${offset}-${bytes.length - 1}` },
      body: bytes.subarray(offset),
    })
    expect(finished.status).toBe(201)
    const pulled = await fetch(`${server.url}/v2/a/blobs/${digest}`)
    expect(Buffer.from(await pulled.arrayBuffer()).equals(bytes)).toBe(true)
  })

  it('is cut off where it stands still', async () => {
    await using server = await run({ stallLimitMs: 50 })
    const location = await startUpload(server.url)
    const socket = await connectTo(server.url)
    const { pathname } = new URL(location)
    socket.write(`PATCH ${pathname} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nabc`)
    await once(socket, 'close')
    const range = async () => (await fetch(location)).headers.get('range')
    await expect.poll(range, { timeout: 10_000 }).toBe('0-2')
  })
})

describe('a download', () => {
  it('ends with its client', async () => {
    await using server = await run()
    const bytes = randomBytes(20_000_000)
    const digest = digestOf(bytes)
    const url = `${server.url}/v2/a/blobs`
    const headers = octets
    await fetch(`${url}/uploads/?digest=${digest}`, { method: 'POST', headers, body: bytes })
    const gone = new AbortController()
    const response = await fetch(`${url}/${digest}`, { signal: gone.signal })
    await response.body?.getReader().read()
    gone.abort()
    const whole = await fetch(`${url}/${digest}`)
    expect(Buffer.from(await whole.arrayBuffer()).equals(bytes)).toBe(true)
  })
})

describe('every failure', () => {
  it('has the form of the spec, also for what is no path, URL or HTTP', async () => {
    await using server = await run()
    const get = (path: string) => send(`${server.url}${path}`, { method: 'GET' })
    expect(await get('/nothing')).toMatchObject({ status: 404, code: 'REQUEST_INVALID' })
    expect(await get('/v2/nothing')).toMatchObject({ status: 404, code: 'NAME_UNKNOWN' })
    expect(await get('/v2/%zz')).toMatchObject({ status: 400, code: 'UNSUPPORTED' })
    expect(await get('/%zz')).toMatchObject({ status: 400, code: 'REQUEST_INVALID' })
    const socket = await connectTo(server.url)
    socket.end('not http\r\n\r\n')
    const answer = Buffer.concat(await socket.toArray()).toString()
    expect(answer).toContain('HTTP/1.1 400')
    expect(answer).toContain('"code":"REQUEST_INVALID"')
  })

  it('says nothing about a fault of ours but where the log has it', async () => {
    await using server = await run()
    await server.store.objects.put('v1/repos/a/_t/damaged', Buffer.from('{"secret"'), 'always')
    const headers = { 'x-request-id': 'mine:1' }
    const answer = await fetch(`${server.url}/v2/a/manifests/damaged`, { headers })
    expect(answer.status).toBe(500)
    expect(answer.headers.get('x-request-id')).toBe('mine:1')
    expect(await answer.text()).toBe(
      '{"errors":[{"code":"UNKNOWN","message":"internal error","detail":{"requestId":"mine:1"}}]}',
    )
  })
})

describe('health and metrics', () => {
  it('is ready while the store can be written to', async () => {
    await using server = await run()
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200)
  })

  it('counts requests, bytes and errors without names in the labels', async () => {
    await using server = await run()
    const bytes = randomBytes(1000)
    const location = await startUpload(server.url)
    const put = { method: 'PUT', headers: octets, body: bytes }
    await fetch(`${location}?digest=${digestOf(bytes)}`, put)
    await fetch(`${server.url}/v2/a/blobs/${digestOf(bytes)}`).then((got) => got.arrayBuffer())
    await fetch(`${server.url}/v2/secret-name/manifests/x`)
    const text = await (await fetch(`${server.url}/metrics`)).text()
    expect(text).toContain('dvcr_blob_bytes_total{direction="in"} 1000')
    expect(text).toContain('dvcr_blob_bytes_total{direction="out"} 1000')
    expect(text).toContain('dvcr_http_errors_total{code="MANIFEST_UNKNOWN"} 1')
    expect(text).toContain('dvcr_uploads_open 0')
    expect(text).not.toContain('secret-name')
  })
})
