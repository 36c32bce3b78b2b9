import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { CodedError } from '../core/errors.ts'
import { collect, noise } from '../test/fixtures/chunks.ts'
import { freePort, listenOnLoopback } from '../test/fixtures/ports.ts'
import { describeUrl, openHttpSource, parseHttpUrl } from './http-source.ts'

type Answer = (request: IncomingMessage, response: ServerResponse, count: number) => void

interface WebServer extends AsyncDisposable {
  readonly origin: string
  readonly requests: IncomingMessage[]
}

async function serve(answer: Answer): Promise<WebServer> {
  const requests: IncomingMessage[] = []
  const server = createServer((request, response) => {
    requests.push(request)
    answer(request, response, requests.length)
  })
  const origin = `http://127.0.0.1:${await listenOnLoopback(server)}`
  return {
    origin,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}

const body = noise(300_000)
const half = body.length / 2
const whole: Answer = (_request, response) => void response.end(body)
const status = (code: number, headers = {}): Answer => {
  return (_request, response) => void response.writeHead(code, headers).end('not the body')
}
/** Says the whole length, sends `size` bytes, hangs up. */
function cut(response: ServerResponse, size: number, headers: Record<string, string>): void {
  response.writeHead(200, { 'content-length': body.length, ...headers })
  response.write(body.subarray(0, size), () => response.destroy())
}
function sendRange(request: IncomingMessage, response: ServerResponse, headers = {}): void {
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1])
  const range = `bytes ${start}-${body.length - 1}/${body.length}`
  response.writeHead(206, { 'content-range': range, ...headers }).end(body.subarray(start))
}

const retryDelaysMs = [1, 1]
let stop: AbortController
beforeEach(() => {
  stop = new AbortController()
})
// Errors of sockets that nobody reads any more would fail the run here.
afterEach(() => sleep(5))

async function fetchAll(url: string): Promise<Buffer> {
  await using source = await openHttpSource(url, { signal: stop.signal, retryDelaysMs })
  return await collect(source.body)
}

async function failure(url: string): Promise<CodedError> {
  try {
    await fetchAll(url)
  } catch (error) {
    if (error instanceof CodedError) return error
    throw error
  }
  throw new Error('it was taken')
}

test('a body comes whole, with its length and a label without secrets', async () => {
  await using web = await serve((_request, response) => {
    response.writeHead(200, { 'content-length': body.length }).end(body)
  })
  const url = web.origin.replace('//', '//me:secret@')
  const options = { signal: stop.signal, retryDelaysMs }
  await using source = await openHttpSource(`${url}/a/b.raw?token=x#y`, options)
  expect([source.label, source.length]).toEqual([`${web.origin}/a/b.raw`, body.length])
  expect((await collect(source.body)).equals(body)).toBe(true)
  expect(web.requests[0]?.url).toBe('/a/b.raw?token=x')
  expect(web.requests[0]?.headers).toMatchObject({ 'accept-encoding': 'identity' })
})

test('a body without a length comes whole, its length unknown', async () => {
  await using web = await serve((_request, response) => {
    response.write(body.subarray(0, 7))
    response.end(body.subarray(7))
  })
  await using source = await openHttpSource(web.origin, { signal: stop.signal, retryDelaysMs })
  expect(source.length).toBeUndefined()
  expect((await collect(source.body)).equals(body)).toBe(true)
})

test.each([
  '',
  'debian.raw',
  '/etc/passwd',
  'file:///etc/passwd',
  'ftp://a/b',
  'http://',
  'data:,x',
])('%j is not a source', (text) => {
  expect(() => parseHttpUrl(text)).toThrow(expect.objectContaining({ code: 'SOURCE_INVALID' }))
})

test('records show of a URL only scheme, host and path', () => {
  const url = parseHttpUrl('https://me:secret@example.org:8443/a%20b/c?X-Amz-Signature=1#top')
  expect(describeUrl(url)).toBe('https://example.org:8443/a%20b/c')
})

describe('answers', () => {
  test.each([
    [404, 'SOURCE_NOT_FOUND'],
    [410, 'SOURCE_NOT_FOUND'],
    [401, 'SOURCE_DENIED'],
    [403, 'SOURCE_DENIED'],
    [400, 'SOURCE_INVALID'],
    [204, 'SOURCE_INVALID'],
    [206, 'SOURCE_INVALID'],
    [304, 'SOURCE_INVALID'],
    [418, 'SOURCE_INVALID'],
  ])('%d is %s at once', async (code, expected) => {
    await using web = await serve(status(code))
    const error = await failure(web.origin)
    expect([error.code, error.retryable, web.requests.length]).toEqual([expected, false, 1])
    expect(error.message).toContain(`answered ${code}`)
  })

  test.each([408, 429, 500, 502, 503, 504])('%d is asked again', async (code) => {
    await using web = await serve((request, response, count) => {
      const answer = count < 3 ? status(code) : whole
      answer(request, response, count)
    })
    expect((await fetchAll(web.origin)).equals(body)).toBe(true)
    expect(web.requests).toHaveLength(3)
  })

  test('a server that stays out of order is given up', async () => {
    await using web = await serve(status(503))
    expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true })
    expect(web.requests).toHaveLength(1 + retryDelaysMs.length)
  })

  test('a server that is not there, hangs up or has no name is unavailable', async () => {
    await using web = await serve((_request, response) => void response.destroy())
    const urls = [`http://127.0.0.1:${await freePort()}/`, web.origin, 'http://host.invalid/']
    for (const url of urls) {
      expect(await failure(url)).toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true })
    }
    expect((await failure(urls[0] ?? '')).message).toContain('connection refused')
  })
})

describe('redirects', () => {
  const chain: Answer = (request, response) => {
    const left = Number(request.url?.slice(1))
    if (left === 0) response.end(body)
    else response.writeHead(302, { location: `/${left - 1}` }).end()
  }

  test('ten are followed', async () => {
    await using web = await serve(chain)
    expect((await fetchAll(`${web.origin}/10`)).equals(body)).toBe(true)
  })

  test('eleven are too many', async () => {
    await using web = await serve(chain)
    expect(await failure(`${web.origin}/11`)).toMatchObject({ code: 'SOURCE_INVALID' })
    expect(web.requests).toHaveLength(11)
  })

  test.each([301, 302, 303, 307, 308])('%d is followed', async (code) => {
    await using web = await serve((request, response, count) => {
      if (count === 1) status(code, { location: 'b?c' })(request, response, count)
      else response.end(request.url)
    })
    expect((await fetchAll(`${web.origin}/a/x`)).toString()).toBe('/a/b?c')
  })

  test.each(['http://[', 'http://a:99999/', 'file:///etc/passwd', 'ftp://a/b'])(
    'to %j is refused',
    async (location) => {
      await using web = await serve(status(302, { location }))
      expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_INVALID' })
      expect(web.requests).toHaveLength(1)
    },
  )

  test('without a place to go is refused', async () => {
    await using web = await serve(status(302))
    expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_INVALID' })
  })

  test('user info goes to its own origin only, and never comes back', async () => {
    await using other = await serve((request, response) => {
      response.writeHead(302, { location: `${web.origin}/back` }).end(request.url)
    })
    await using web = await serve((request, response) => {
      if (request.url === '/a') response.writeHead(302, { location: '/b' }).end()
      else if (request.url === '/b') response.writeHead(302, { location: other.origin }).end()
      else response.end(body)
    })
    await fetchAll(`${web.origin.replace('//', '//m%C3%A9:p%40:ss@')}/a`)
    const basic = `Basic ${Buffer.from('mé:p@:ss').toString('base64')}`
    expect(web.requests.map(({ headers }) => headers.authorization)).toEqual([
      basic,
      basic,
      undefined,
    ])
    expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined])
  })

  test('user info that is not percent-encoded right is refused', async () => {
    await using web = await serve(whole)
    const url = web.origin.replace('//', '//me:100%zz@')
    expect(await failure(url)).toMatchObject({ code: 'SOURCE_INVALID' })
  })
})

describe('a body that breaks', () => {
  const strong = { etag: '"one"' }
  const dated = { 'last-modified': 'Tue, 01 Oct 2024 10:00:00 GMT' }

  test.each([
    ['a strong ETag', strong, '"one"'],
    ['a date', dated, dated['last-modified']],
    ['a weak ETag and a date', { etag: 'W/"one"', ...dated }, dated['last-modified']],
    ['a strong ETag and a date', { ...strong, ...dated }, '"one"'],
  ])('is continued where %s pins it', async (_what, headers, ifRange) => {
    await using web = await serve((request, response, count) => {
      if (count === 1) cut(response, half, headers)
      else sendRange(request, response, headers)
    })
    expect((await fetchAll(web.origin)).equals(body)).toBe(true)
    expect(web.requests[1]?.headers).toMatchObject({ range: `bytes=${half}-`, 'if-range': ifRange })
  })

  test('is continued where the redirects ended, as often as bytes arrive', async () => {
    const step = 30_000
    await using web = await serve((request, response) => {
      if (request.url === '/start') return void response.writeHead(302, { location: '/end' }).end()
      const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
      const range = `bytes ${start}-${body.length - 1}/${body.length}`
      response.writeHead(start === 0 ? 200 : 206, {
        ...strong,
        'content-length': body.length - start,
        ...(start === 0 ? {} : { 'content-range': range }),
      })
      response.write(body.subarray(start, start + step), () => response.destroy())
    })
    expect((await fetchAll(`${web.origin}/start`)).equals(body)).toBe(true)
    expect(web.requests.map(({ url }) => url)).toEqual([
      '/start',
      ...Array.from({ length: body.length / step }, () => '/end'),
    ])
  })

  test('is continued after a server error in between', async () => {
    await using web = await serve((request, response, count) => {
      if (count === 1) cut(response, half, strong)
      else if (count === 2) status(503)(request, response, count)
      else sendRange(request, response, strong)
    })
    expect((await fetchAll(web.origin)).equals(body)).toBe(true)
  })

  test.each([
    ['an answer with another ETag', 200, { etag: '"two"' }],
    ['an answer without any', 200, {}],
    ['a range of another ETag', 206, { etag: '"two"' }],
  ])('and has changed is told by %s', async (_what, code, headers) => {
    await using web = await serve((request, response, count) => {
      if (count === 1) cut(response, half, strong)
      else if (code === 206) sendRange(request, response, headers)
      else response.writeHead(200, headers).end(body)
    })
    const error = await failure(web.origin)
    expect([error.code, error.retryable]).toEqual(['SOURCE_CHANGED', false])
  })

  test('from a server that does no ranges is cut', async () => {
    await using web = await serve((_request, response) => cut(response, half, strong))
    expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_TRUNCATED', retryable: true })
  })

  test('from a server that sends another range is cut', async () => {
    await using web = await serve((_request, response, count) => {
      if (count === 1) return cut(response, half, strong)
      const range = `bytes 0-${body.length - 1}/${body.length}`
      response.writeHead(206, { ...strong, 'content-range': range }).end(body)
    })
    expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_TRUNCATED' })
  })

  test.each([
    ['nothing', {}],
    ['a weak ETag', { etag: 'W/"one"' }],
  ])('is cut where %s pins it', async (_what, headers) => {
    await using web = await serve((_request, response) => cut(response, half, headers))
    const error = await failure(web.origin)
    expect(error).toMatchObject({ code: 'SOURCE_TRUNCATED', retryable: true })
    expect(error.message).toContain(`of ${body.length} bytes`)
    expect(web.requests).toHaveLength(1)
  })

  test('without a length is cut', async () => {
    await using web = await serve((_request, response) => {
      response.writeHead(200, strong)
      response.write(body.subarray(0, half), () => response.destroy())
    })
    expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_TRUNCATED' })
  })
})

describe('nobody is hurt', () => {
  const endless: Answer = (_request, response) => {
    response.writeHead(200, { 'content-length': 10 ** 12 })
    const more = (): void => void response.write(body, (error) => error ?? more())
    more()
  }

  test('by an abort while waiting for the answer', async () => {
    await using web = await serve(() => stop.abort(new CodedError('CANCELLED', 'enough')))
    expect(await failure(web.origin)).toMatchObject({ code: 'CANCELLED' })
  })

  test('by an abort while waiting for the next try', async () => {
    await using web = await serve((request, response, count) => {
      status(503)(request, response, count)
      setTimeout(() => stop.abort(new CodedError('CANCELLED', 'enough')), 20)
    })
    const opening = openHttpSource(web.origin, { signal: stop.signal, retryDelaysMs: [60_000] })
    await expect(opening).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  test('by an abort in the middle of the body', async () => {
    await using web = await serve(endless)
    await using source = await openHttpSource(web.origin, { signal: stop.signal, retryDelaysMs })
    const reading = async (): Promise<void> => {
      for await (const chunk of source.body) {
        expect(chunk.length).toBeGreaterThan(0)
        stop.abort(new CodedError('CANCELLED', 'enough'))
      }
    }
    await expect(reading()).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  test('by a source that is closed unread, or read in part', async () => {
    await using web = await serve(endless)
    const options = { signal: stop.signal, retryDelaysMs }
    await (await openHttpSource(web.origin, options))[Symbol.asyncDispose]()
    const source = await openHttpSource(web.origin, options)
    for await (const chunk of source.body) {
      expect(chunk.length).toBeGreaterThan(0)
      break
    }
    await source[Symbol.asyncDispose]()
    await sleep(20)
  })

  test('by an abort after the source was opened and before it is read', async () => {
    await using web = await serve(endless)
    await using source = await openHttpSource(web.origin, { signal: stop.signal, retryDelaysMs })
    stop.abort(new CodedError('CANCELLED', 'enough'))
    await sleep(20)
    await expect(collect(source.body)).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  test('by a connection that breaks before the body is read', async () => {
    await using web = await serve((_request, response) => cut(response, 10, {}))
    await using source = await openHttpSource(web.origin, { signal: stop.signal, retryDelaysMs })
    await sleep(50)
    await expect(collect(source.body)).rejects.toMatchObject({ code: 'SOURCE_TRUNCATED' })
  })
})
