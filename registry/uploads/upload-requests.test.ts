import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { createLog } from '../../core/log.ts'
import { openTempStore } from '../../test/fixtures/temp-store.ts'
import { createMetrics } from '../metrics.ts'
import { createServer } from '../http/server.ts'

async function run() {
  await using owned = new AsyncDisposableStack()
  const store = owned.use(await openTempStore())
  const log = createLog('silent')
  const metrics = createMetrics()
  const app = createServer({ store, log, metrics, guard: 'loopback', drainMs: 100 })
  owned.defer(() => app.close())
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const stack = owned.move()
  return { url, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

async function startUpload(url: string, query = ''): Promise<string> {
  const started = await fetch(`${url}/v2/a/blobs/uploads/${query}`, { method: 'POST' })
  expect(started.status).toBe(202)
  return `${url}${started.headers.get('location')}`
}

async function send(method: string, url: string, body?: Uint8Array, range?: string) {
  const headers: Record<string, string> = { 'content-type': 'application/octet-stream' }
  if (range !== undefined) headers['content-range'] = range
  const response = await fetch(url, { method, headers, body: body ? Buffer.from(body) : null })
  const text = await response.text()
  const json: unknown = JSON.parse(text === '' ? '{}' : text)
  const code: unknown = Object(json).errors?.[0]?.code
  return { status: response.status, range: response.headers.get('range'), code }
}

describe('requests to an upload', () => {
  it('may repeat the last one, whose answer was lost', async () => {
    await using server = await run()
    const bytes = randomBytes(100_000)
    const digest = digestOf(bytes)
    const location = await startUpload(server.url)
    for (let tries = 0; tries < 3; tries++) {
      expect(await send('PUT', `${location}?digest=${digest}`, bytes)).toMatchObject({
        status: 201,
      })
    }
    const unknown = { status: 404, code: 'BLOB_UPLOAD_UNKNOWN' }
    const other = digestOf(randomBytes(32))
    expect(await send('PUT', `${location}?digest=${other}`)).toMatchObject(unknown)
    // Another repository does not have the blob.
    const elsewhere = location.replace('/v2/a/', '/v2/b/')
    expect(await send('PUT', `${elsewhere}?digest=${digest}`)).toMatchObject(unknown)
  })

  it('find it in its own repository only', async () => {
    await using server = await run()
    const location = await startUpload(server.url)
    const elsewhere = location.replace('/v2/a/', '/v2/b/')
    const unknown = { status: 404, code: 'BLOB_UPLOAD_UNKNOWN' }
    for (const method of ['GET', 'PATCH', 'DELETE']) {
      const body = method === 'PATCH' ? randomBytes(10) : undefined
      expect(await send(method, elsewhere, body)).toMatchObject(unknown)
    }
    expect(await send('GET', location)).toMatchObject({ status: 204, range: '0-0' })
  })

  it('go on although the server still waits for one whose client is gone', async () => {
    await using server = await run()
    const bytes = randomBytes(300_000)
    const location = await startUpload(server.url)
    const { port, pathname } = new URL(location)
    const socket = connect(Number(port), '127.0.0.1')
    const head = `PATCH ${pathname} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: ${bytes.length}\r\n\r\n`
    socket.write(head)
    socket.write(bytes.subarray(0, 100_000))
    const answered = once(socket, 'data')
    // Nobody acknowledged these bytes yet; what was sent may not have arrived.
    const tries = [0, 100_000].map((at) =>
      send('PATCH', location, bytes.subarray(at), `${at}-${bytes.length - 1}`),
    )
    const [first] = await answered
    expect(String(first)).toMatch(/^HTTP\/1.1 416 /)
    socket.destroy()
    const outcomes = await Promise.all(tries)
    expect(outcomes.map(({ status }) => status)).toContain(416)
    const { range } = await send('GET', location)
    const offset = Number(range?.slice('0-'.length)) + 1
    const rest = bytes.subarray(offset > 1 ? offset : 0)
    const digest = digestOf(bytes)
    expect(await send('PUT', `${location}?digest=${digest}`, rest)).toMatchObject({ status: 201 })
  })

  it('take a digest algorithm in advance, and refuse one they do not know', async () => {
    await using server = await run()
    const bytes = randomBytes(50_000)
    const location = await startUpload(server.url, '?digest-algorithm=sha512')
    expect(await send('PATCH', location, bytes)).toMatchObject({ status: 202, range: '0-49999' })
    const digest = digestOf(bytes, 'sha512')
    expect(await send('PUT', `${location}?digest=${digest}`)).toMatchObject({ status: 201 })
    const unknown = `${server.url}/v2/a/blobs/uploads/?digest-algorithm=md5`
    expect(await send('POST', unknown)).toMatchObject({ status: 400, code: 'DIGEST_INVALID' })
  })
})
