import { createServer, type RequestListener } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { collect } from '../test/fixtures/chunks.ts'
import { freePort, listenOnLoopback } from '../test/fixtures/ports.ts'
import { CodedError } from './errors.ts'
import { createHttpClient, type HttpClient } from './http-client.ts'

interface Setup extends AsyncDisposable {
  readonly client: HttpClient
}

async function against(listener: RequestListener): Promise<Setup> {
  const server = createServer(listener)
  const client = createHttpClient(new URL(`http://127.0.0.1:${await listenOnLoopback(server)}`))
  return {
    client,
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]()
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}

const answering = (status: number, body: string, headers = {}): RequestListener => {
  return (_request, response) => void response.writeHead(status, headers).end(body)
}
const errorBody = (code: string, message: unknown = 'what happened'): string =>
  JSON.stringify({
    errors: [
      { code, message },
      { code: 'UNKNOWN', message: 'second' },
    ],
  })
const get = { method: 'GET', accept: [200] } as const

test('an accepted answer is given as it came', async () => {
  await using setup = await against((request, response) => {
    response.writeHead(404, { 'x-seen': `${request.method} ${request.url}` }).end('body')
  })
  const response = await setup.client.send('/a?b=c', { method: 'GET', accept: [200, 404] })
  expect(response.statusCode).toBe(404)
  expect(response.headers['x-seen']).toBe('GET /a?b=c')
  expect(await response.body.text()).toBe('body')
})

test('the code and message of an answer become the error', async () => {
  await using setup = await against(answering(404, errorBody('BLOB_UNKNOWN')))
  await expect(setup.client.send('/a', get)).rejects.toMatchObject({
    code: 'BLOB_UNKNOWN',
    message: 'what happened',
    retryable: false,
  })
})

test.each([
  ['a code we do not know', errorBody('TEAPOT'), 'what happened'],
  ['a code that is no text', '{"errors":[{"code":1,"message":"m"}]}', 'GET /a on 127.0.0.1'],
  ['no errors', '{"errors":[]}', 'GET /a on 127.0.0.1'],
  ['errors that are no list', '{"errors":{"code":"DENIED"}}', 'GET /a on 127.0.0.1'],
  ['null', 'null', 'GET /a on 127.0.0.1'],
  ['a page', '<html>', 'GET /a on 127.0.0.1'],
  ['nothing', '', 'GET /a on 127.0.0.1'],
])('an answer with %s says which request failed', async (_what, body, message) => {
  await using setup = await against(answering(418, body))
  const failed: unknown = await setup.client.send('/a', get).catch((error: unknown) => error)
  expect(failed).toBeInstanceOf(CodedError)
  expect(failed).toMatchObject({ code: 'REQUEST_INVALID', retryable: false })
  expect(String(failed)).toContain(message)
})

test.each([
  [401, 'UNAUTHORIZED'],
  [403, 'DENIED'],
  [413, 'SIZE_INVALID'],
  [429, 'TOOMANYREQUESTS'],
  [502, 'TARGET_UNAVAILABLE'],
  [204, 'TARGET_UNAVAILABLE'],
])('status %i without words of ours is %s', async (status, code) => {
  await using setup = await against(answering(status, ''))
  await expect(setup.client.send('/', get)).rejects.toMatchObject({ code })
})

test('an error body without an end is read only so far', async () => {
  await using setup = await against((_request, response) => {
    response.writeHead(500)
    const sending = setInterval(() => response.write(Buffer.alloc(65_536)), 1)
    response.on('close', () => clearInterval(sending))
  })
  await expect(setup.client.send('/', get)).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' })
})

test('a body may be bytes or a stream', async () => {
  await using setup = await against((request, response) => void request.pipe(response))
  const echo = async (body: Uint8Array | AsyncIterable<Uint8Array>): Promise<string> => {
    const response = await setup.client.send('/', { method: 'PUT', body, accept: [200] })
    return (await collect(response.body)).toString()
  }
  async function* stream(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('one ')
    await sleep(1)
    yield Buffer.from('two')
  }
  expect(await echo(Buffer.from('bytes'))).toBe('bytes')
  expect(await echo(stream())).toBe('one two')
  expect(await echo(new Uint8Array())).toBe('')
})

test('a body that fails is told by its own error', async () => {
  await using setup = await against((request) => void request.resume())
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('one')
    throw new CodedError('SOURCE_TRUNCATED', 'cut')
  }
  const sent = setup.client.send('/', { method: 'PUT', body: broken(), accept: [200] })
  await expect(sent).rejects.toMatchObject({ code: 'SOURCE_TRUNCATED' })
})

test('a server that is not there, or hangs up, is unavailable', async () => {
  await using none = createHttpClient(new URL(`http://127.0.0.1:${await freePort()}`))
  await expect(none.send('/', get)).rejects.toMatchObject({
    code: 'TARGET_UNAVAILABLE',
    retryable: true,
  })
  await using setup = await against((_request, response) => void response.destroy())
  await expect(setup.client.send('/', get)).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' })
})

test('an error answer that is cut off is still an error', async () => {
  await using setup = await against((_request, response) => {
    response.writeHead(500, { 'content-length': 100 })
    response.write('{"errors"', () => response.destroy())
  })
  await expect(setup.client.send('/', get)).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' })
})

test('requests never leave the server', async () => {
  await using setup = await against(answering(200, 'x'))
  for (const path of ['http://example.invalid/', '//example.invalid/a', 'file:///etc/passwd']) {
    await expect(setup.client.send(path, get)).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' })
  }
  const response = await setup.client.send(`${setup.client.base.origin}/b`, get)
  expect(await response.body.text()).toBe('x')
})

test('an abort ends a request with its reason', async () => {
  await using setup = await against(() => {})
  const stop = new AbortController()
  const sent = setup.client.send('/', { ...get, signal: stop.signal })
  stop.abort(new CodedError('CANCELLED', 'enough'))
  await expect(sent).rejects.toMatchObject({ code: 'CANCELLED' })
})

test('a redirect is followed, for GET and HEAD only', async () => {
  await using setup = await against((request, response) => {
    if (request.url === '/there') response.end(`${request.method} ${request.headers.range}`)
    else response.writeHead(307, { location: '/there' }).end()
  })
  const { client } = setup
  const followed = await client.send('/a', { ...get, headers: { range: 'bytes=1-2' } })
  expect(await followed.body.text()).toBe('GET bytes=1-2')
  const asked = { method: 'POST', accept: [201] } as const
  await expect(client.send('/a', asked)).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' })
  const taken = await client.send('/a', { method: 'GET', accept: [307] })
  expect(taken.headers['location']).toBe('/there')
  await taken.body.dump()
})

test('redirects without end are an error', async () => {
  let asked = 0
  await using setup = await against((_request, response) => {
    asked += 1
    response.writeHead(302, { location: `/${asked}` }).end()
  })
  await expect(setup.client.send('/a', get)).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' })
  expect(asked).toBe(6)
})

test('the time that a server asks to wait is kept', async () => {
  await using setup = await against(answering(429, '', { 'retry-after': '7' }))
  await expect(setup.client.send('/a', get)).rejects.toMatchObject({
    code: 'TOOMANYREQUESTS',
    detail: { retryAfterSeconds: 7 },
  })
})
