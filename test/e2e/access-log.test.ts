import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { connectTcp } from '../fixtures/tcp.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { jsonLines } from './json-lines.ts'

const owned = new AsyncDisposableStack()
let server: RunningServer
const octets = { 'content-type': 'application/octet-stream' }

beforeAll(async () => {
  const { path: data } = owned.use(await createTempFolder())
  server = owned.use(await startDvcr({ data, args: ['--access-log', '--log-level', 'debug'] }))
})
afterAll(() => owned.disposeAsync())

/** The line of the request with that id, once it is there. */
async function lineOf(id: string): Promise<Readonly<Record<string, unknown>>> {
  const find = () =>
    jsonLines(server.output()).find(({ msg, requestId }) => msg === 'access' && requestId === id)
  await expect.poll(find, { timeout: 10_000 }).toBeDefined()
  return find() ?? {}
}

it('every request is one line, with its bytes and its end', async () => {
  const bytes = randomBytes(100_000)
  const digest = digestOf(bytes)
  const url = `${server.url}/v2/a/blobs/uploads/?digest=${digest}`
  const headers = { ...octets, 'x-request-id': 'push-1' }
  await fetch(url, { method: 'POST', headers, body: bytes })
  expect(await lineOf('push-1')).toMatchObject({
    level: 30,
    remote: '127.0.0.1',
    method: 'POST',
    path: '/v2/a/blobs/uploads/',
    http: '1.1',
    status: 201,
    bytesIn: bytes.length,
    bytesOut: 0,
    ms: expect.any(Number),
  })
  const pull = { headers: { 'x-request-id': 'pull-1', range: 'bytes=10-19' } }
  await (await fetch(`${server.url}/v2/a/blobs/${digest}`, pull)).arrayBuffer()
  expect(await lineOf('pull-1')).toMatchObject({ status: 206, bytesIn: 0, bytesOut: 10 })
  const unknown = await fetch(`${server.url}/nothing`, { headers: { 'x-request-id': 'none-1' } })
  const { length } = await unknown.text()
  expect(await lineOf('none-1')).toMatchObject({ status: 404, bytesOut: length })
})

it('no line has a query, a header or a body, at any level', async () => {
  const secrets = ['query-secret', 'header-secret', 'body-secret']
  for (const path of ['/v2/a/manifests/x', '/v2/', '/v1/imports', '/%zz', '/nothing']) {
    await fetch(`${server.url}${path}?token=query-secret`, {
      method: 'PUT',
      headers: {
        authorization: 'Bearer header-secret',
        cookie: 'header-secret',
        'content-type': 'application/json',
        'x-request-id': 'secret-1',
      },
      body: '{"password":"body-secret"}',
    })
  }
  await lineOf('secret-1')
  for (const secret of secrets) expect(server.output()).not.toContain(secret)
})

it('an id of the client is kept where other services could log it, and always told', async () => {
  const ask = async (id: string) => {
    const answer = await fetch(`${server.url}/v2/`, { headers: { 'x-request-id': id } })
    return answer.headers.get('x-request-id') ?? ''
  }
  expect(await ask('a-B_c.d:1+2=3@x')).toBe('a-B_c.d:1+2=3@x')
  for (const id of ['two words', '"quoted"', 'x'.repeat(129), '']) {
    expect(await ask(id)).toMatch(/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
  }
})

it('a client that goes away before its answer is a line too', async () => {
  const started = await fetch(`${server.url}/v2/a/blobs/uploads/`, { method: 'POST' })
  const socket = await connectTcp(Number(new URL(server.url).port))
  socket.write(`PATCH ${started.headers.get('location')} HTTP/1.1\r\nhost: localhost\r\n`)
  socket.write('x-request-id: gone-1\r\ncontent-length: 1000\r\n\r\nabc')
  const { port } = new URL(server.url)
  const taken = async () => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  await expect.poll(taken).toMatch(/^dvcr_blob_bytes_total\{direction="in"\} \d+3$/m)
  socket.destroy()
  expect(await lineOf('gone-1')).toMatchObject({ status: 499, bytesIn: 3, aborted: true })
})
