import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { CodedError } from '../../core/errors.ts'
import { collect, noise } from '../../test/fixtures/chunks.ts'
import { freePort } from '../../test/fixtures/ports.ts'
import { fetchSource, sourceFailure } from '../../test/fixtures/fetched-source.ts'
import { startWebServer, withStatus, type Answer } from '../../test/fixtures/web-server.ts'
import { describeUrl, parseHttpUrl } from './http-request.ts'
import { openHttpSource, webAddress } from './http-source.ts'

const body = noise(300_000)
const whole: Answer = (_request, response) => void response.end(body)

const retryDelaysMs = [1, 1]
let stop: AbortController
beforeEach(() => {
  stop = new AbortController()
})
// Errors of sockets that nobody reads any more would fail the run here.
afterEach(() => sleep(5))

const fetchAll = (url: string) => fetchSource(url, stop.signal)
const failure = (url: string) => sourceFailure(url, stop.signal)

test('a body comes whole, with its length and a label without secrets', async () => {
  await using web = await startWebServer((_request, response) => {
    response.writeHead(200, { 'content-length': body.length }).end(body)
  })
  const url = web.origin.replace('//', '//me:secret@')
  const options = { signal: stop.signal, retryDelaysMs }
  await using source = await openHttpSource([webAddress(`${url}/a/b.raw?token=x#y`)], options)
  expect([source.label, source.length]).toEqual([`${web.origin}/a/b.raw`, body.length])
  expect((await collect(source.body)).equals(body)).toBe(true)
  expect(web.requests[0]?.url).toBe('/a/b.raw?token=x')
  expect(web.requests[0]?.headers).toMatchObject({ 'accept-encoding': 'identity' })
})

test('a body without a length comes whole, its length unknown', async () => {
  await using web = await startWebServer((_request, response) => {
    response.write(body.subarray(0, 7))
    response.end(body.subarray(7))
  })
  await using source = await openHttpSource([webAddress(web.origin)], {
    signal: stop.signal,
    retryDelaysMs,
  })
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
    await using web = await startWebServer(withStatus(code))
    const error = await failure(web.origin)
    expect([error.code, error.retryable, web.requests.length]).toEqual([expected, false, 1])
    expect(error.message).toContain(`answered ${code}`)
  })

  test.each([408, 429, 500, 502, 503, 504])('%d is asked again', async (code) => {
    await using web = await startWebServer((request, response, count) => {
      const answer = count < 3 ? withStatus(code) : whole
      answer(request, response, count)
    })
    expect((await fetchAll(web.origin)).equals(body)).toBe(true)
    expect(web.requests).toHaveLength(3)
  })

  test('a server that stays out of order is given up', async () => {
    await using web = await startWebServer(withStatus(503))
    expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true })
    expect(web.requests).toHaveLength(1 + retryDelaysMs.length)
  })

  test('a server that is not there, hangs up or has no name is unavailable', async () => {
    await using web = await startWebServer((_request, response) => void response.destroy())
    const urls = [`http://127.0.0.1:${await freePort()}/`, web.origin, 'http://host.invalid/']
    for (const url of urls) {
      expect(await failure(url)).toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true })
    }
    expect((await failure(urls[0] ?? '')).message).toContain('connection refused')
  })
})

describe('nobody is hurt', () => {
  const endless: Answer = (_request, response) => {
    response.writeHead(200, { 'content-length': 10 ** 12 })
    const more = (): void => void response.write(body, (error) => error ?? more())
    more()
  }

  test('by an abort while waiting for the answer', async () => {
    await using web = await startWebServer(() => stop.abort(new CodedError('CANCELLED', 'enough')))
    expect(await failure(web.origin)).toMatchObject({ code: 'CANCELLED' })
  })

  test('by an abort while waiting for the next try', async () => {
    await using web = await startWebServer((request, response, count) => {
      withStatus(503)(request, response, count)
      setTimeout(() => stop.abort(new CodedError('CANCELLED', 'enough')), 20)
    })
    const opening = openHttpSource([webAddress(web.origin)], {
      signal: stop.signal,
      retryDelaysMs: [60_000],
    })
    await expect(opening).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  test('by an abort in the middle of the body', async () => {
    await using web = await startWebServer(endless)
    await using source = await openHttpSource([webAddress(web.origin)], {
      signal: stop.signal,
      retryDelaysMs,
    })
    const reading = async (): Promise<void> => {
      for await (const chunk of source.body) {
        expect(chunk.length).toBeGreaterThan(0)
        stop.abort(new CodedError('CANCELLED', 'enough'))
      }
    }
    await expect(reading()).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  test('by a source that is closed unread, or read in part', async () => {
    await using web = await startWebServer(endless)
    const options = { signal: stop.signal, retryDelaysMs }
    await (await openHttpSource([webAddress(web.origin)], options))[Symbol.asyncDispose]()
    const source = await openHttpSource([webAddress(web.origin)], options)
    for await (const chunk of source.body) {
      expect(chunk.length).toBeGreaterThan(0)
      break
    }
    await source[Symbol.asyncDispose]()
    await sleep(20)
  })

  test('by an abort after the source was opened and before it is read', async () => {
    await using web = await startWebServer(endless)
    await using source = await openHttpSource([webAddress(web.origin)], {
      signal: stop.signal,
      retryDelaysMs,
    })
    stop.abort(new CodedError('CANCELLED', 'enough'))
    await sleep(20)
    await expect(collect(source.body)).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  test('by a connection that breaks before the body is read', async () => {
    await using web = await startWebServer((_request, response) => {
      response.writeHead(200, { 'content-length': body.length })
      response.write(body.subarray(0, 10), () => response.destroy())
    })
    await using source = await openHttpSource([webAddress(web.origin)], {
      signal: stop.signal,
      retryDelaysMs,
    })
    await sleep(50)
    await expect(collect(source.body)).rejects.toMatchObject({ code: 'SOURCE_TRUNCATED' })
  })
})
