import type { IncomingMessage, ServerResponse } from 'node:http'
import { describe, expect, test } from 'vitest'
import { collect, noise } from '../../test/fixtures/chunks.ts'
import { fetchSource, sourceFailure } from '../../test/fixtures/fetched-source.ts'
import { startWebServer, withStatus } from '../../test/fixtures/web-server.ts'
import { openHttpSource, webAddress } from './http-source.ts'

const body = noise(300_000)
const half = body.length / 2
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

const { signal } = new AbortController()

const fetchAll = (url: string) => fetchSource(url, signal)
const failure = (url: string) => sourceFailure(url, signal)

describe('a body that breaks', () => {
  const strong = { etag: '"one"' }
  const dated = { 'last-modified': 'Tue, 01 Oct 2024 10:00:00 GMT' }

  test.each([
    ['a strong ETag', strong, '"one"'],
    ['a date', dated, dated['last-modified']],
    ['a weak ETag and a date', { etag: 'W/"one"', ...dated }, dated['last-modified']],
    ['a strong ETag and a date', { ...strong, ...dated }, '"one"'],
  ])('is continued where %s pins it', async (_what, headers, ifRange) => {
    await using web = await startWebServer((request, response, count) => {
      if (count === 1) cut(response, half, headers)
      else sendRange(request, response, headers)
    })
    await using source = await openHttpSource([webAddress(web.origin)], {
      signal,
      retryDelaysMs: [1],
    })
    expect((await collect(source.body)).equals(body)).toBe(true)
    expect(web.requests[1]?.headers).toMatchObject({ range: `bytes=${half}-`, 'if-range': ifRange })
    expect(source.pin).toBe(ifRange)
  })

  test('is continued where the redirects ended, as often as bytes arrive', async () => {
    const step = 30_000
    await using web = await startWebServer((request, response) => {
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
    await using web = await startWebServer((request, response, count) => {
      if (count === 1) cut(response, half, strong)
      else if (count === 2) withStatus(503)(request, response, count)
      else sendRange(request, response, strong)
    })
    expect((await fetchAll(web.origin)).equals(body)).toBe(true)
  })

  test.each([
    ['an answer with another ETag', 200, { etag: '"two"' }],
    ['an answer without any', 200, {}],
    ['a range of another ETag', 206, { etag: '"two"' }],
  ])('and has changed is told by %s', async (_what, code, headers) => {
    await using web = await startWebServer((request, response, count) => {
      if (count === 1) cut(response, half, strong)
      else if (code === 206) sendRange(request, response, headers)
      else response.writeHead(200, headers).end(body)
    })
    const error = await failure(web.origin)
    expect([error.code, error.retryable]).toEqual(['SOURCE_CHANGED', false])
  })

  test('from a server that does no ranges is cut', async () => {
    await using web = await startWebServer((_request, response) => cut(response, half, strong))
    expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_TRUNCATED', retryable: true })
  })

  test('from a server that sends another range is cut', async () => {
    await using web = await startWebServer((_request, response, count) => {
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
    await using web = await startWebServer((_request, response) => cut(response, half, headers))
    const error = await failure(web.origin)
    expect(error).toMatchObject({ code: 'SOURCE_TRUNCATED', retryable: true })
    expect(error.message).toContain(`of ${body.length} bytes`)
    expect(web.requests).toHaveLength(1)
  })

  test('without a length is cut', async () => {
    await using web = await startWebServer((_request, response) => {
      response.writeHead(200, strong)
      response.write(body.subarray(0, half), () => response.destroy())
    })
    expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_TRUNCATED' })
  })
})
