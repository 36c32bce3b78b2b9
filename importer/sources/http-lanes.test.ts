import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { collect, noise } from '../../test/fixtures/chunks.ts'
import { startWebServer, type Answer, type WebServer } from '../../test/fixtures/web-server.ts'
import { openHttpSource, webAddress } from './http-source.ts'

const body = noise(600_000)
const segmentBytes = 50_000
const lanes = { lanes: 4, segmentBytes, afterMs: 10 }
const pins = { etag: '"one"', 'accept-ranges': 'bytes' }
const { signal } = new AbortController()
const options = { signal, retryDelaysMs: [1, 1], lanes }

interface Asked {
  readonly start: number
  /** The byte behind the last one. */
  readonly end: number
  readonly isRange: boolean
}

function askedFor({ headers }: IncomingMessage): Asked {
  const found = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? '')
  const end = found?.[2] ? Number(found[2]) + 1 : body.length
  return { start: Number(found?.[1] ?? 0), end, isRange: found !== null }
}

/** Sends what was asked for in small pieces with waits between: a connection that is slow. */
async function drip(
  response: ServerResponse,
  { start, end, isRange }: Asked,
  { headers = pins, breakAt = Infinity }: { headers?: object; breakAt?: number } = {},
): Promise<void> {
  response.writeHead(isRange ? 206 : 200, {
    ...headers,
    'content-length': end - start,
    ...(isRange ? { 'content-range': `bytes ${start}-${end - 1}/${body.length}` } : {}),
  })
  for (let at = start; at < end && !response.destroyed; at += 10_000) {
    if (at - start >= breakAt) return void response.destroy()
    response.write(body.subarray(at, Math.min(end, at + 10_000)))
    await sleep(4)
  }
  response.end()
}

const slow: Answer = (request, response) => void drip(response, askedFor(request))

async function fetchFrom({ origin }: WebServer, change: object = {}): Promise<Buffer> {
  await using source = await openHttpSource([webAddress(`${origin}/a`)], { ...options, ...change })
  return await collect(source.body)
}

const rangesOf = ({ requests }: WebServer): Asked[] =>
  requests.map(askedFor).filter(({ isRange }) => isRange)

describe('a source that is slower than its reader', () => {
  test('is read over several connections, each byte once', async () => {
    let open = 0
    let most = 0
    await using web = await startWebServer((request, response) => {
      most = Math.max(most, ++open)
      void drip(response, askedFor(request)).finally(() => open--)
    })
    expect((await fetchFrom(web)).equals(body)).toBe(true)
    expect(most).toBeGreaterThanOrEqual(4)
    const ranges = rangesOf(web).toSorted((a, b) => a.start - b.start)
    expect(ranges.length).toBeGreaterThan(8)
    expect(ranges.at(-1)?.end).toBe(body.length)
    for (const [index, { end }] of ranges.slice(0, -1).entries()) {
      expect(ranges[index + 1]?.start).toBe(end)
    }
    for (const { headers } of web.requests.slice(1)) expect(headers['if-range']).toBe('"one"')
  })

  test.each([
    ['says nothing of ranges', { etag: '"one"' }],
    ['says it has none', { etag: '"one"', 'accept-ranges': 'none' }],
    ['pins nothing', { 'accept-ranges': 'bytes' }],
  ])('is read as one stream where it %s', async (_what, headers) => {
    await using web = await startWebServer((request, response) => {
      void drip(response, askedFor(request), { headers })
    })
    expect((await fetchFrom(web)).equals(body)).toBe(true)
    expect(web.requests).toHaveLength(1)
  })

  test('is read as one stream where it takes no ranges after all', async () => {
    await using web = await startWebServer((request, response) => {
      void drip(response, { ...askedFor(request), start: 0, end: body.length, isRange: false })
    })
    expect((await fetchFrom(web)).equals(body)).toBe(true)
  })

  test('has fewer connections where it refuses some', async () => {
    let open = 0
    await using web = await startWebServer((request, response) => {
      if (open >= 2) return void response.writeHead(open === 2 ? 429 : 403).end()
      open++
      void drip(response, askedFor(request)).finally(() => open--)
    })
    expect((await fetchFrom(web)).equals(body)).toBe(true)
  })

  test('goes on where single connections break', async () => {
    await using web = await startWebServer((request, response, count) => {
      void drip(response, askedFor(request), count % 3 === 0 ? { breakAt: 20_000 } : {})
    })
    expect((await fetchFrom(web)).equals(body)).toBe(true)
  })

  test('that breaks for good is given up', async () => {
    await using web = await startWebServer((request, response, count) => {
      void drip(response, askedFor(request), { breakAt: count === 1 ? Infinity : 0 })
    })
    await expect(fetchFrom(web)).rejects.toMatchObject({ code: 'SOURCE_UNAVAILABLE' })
  })

  test.each([
    ['a whole answer', false],
    ['a range', true],
  ])('and that changes is told by %s', async (_what, isRange) => {
    await using web = await startWebServer((request, response, count) => {
      const headers = { ...pins, etag: count < 6 ? '"one"' : '"two"' }
      const asked = askedFor(request)
      void drip(response, count < 6 || isRange ? asked : { ...asked, isRange: false }, { headers })
    })
    await expect(fetchFrom(web)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
  })

  test('is asked where its redirects led to, and again when that has expired', async () => {
    await using web = await startWebServer((request, response, count) => {
      const { url = '' } = request
      if (url === '/a') return void response.writeHead(302, { location: `/b${count}` }).end()
      const signedAt = Number(url.slice(2))
      if (count - signedAt > 7) return void response.writeHead(403).end()
      void drip(response, askedFor(request))
    })
    expect((await fetchFrom(web)).equals(body)).toBe(true)
    const redirects = web.requests.filter(({ url }) => url === '/a').length
    expect(redirects).toBeGreaterThan(1)
    expect(redirects).toBeLessThan(web.requests.length / 2)
  })

  test('is not read further ahead than the lanes go', async () => {
    await using web = await startWebServer(slow)
    await using source = await openHttpSource([webAddress(`${web.origin}/a`)], options)
    const chunks = source.body[Symbol.asyncIterator]()
    while (rangesOf(web).length === 0) await chunks.next()
    await sleep(200)
    const [first] = rangesOf(web)
    const furthest = Math.max(...rangesOf(web).map(({ end }) => end))
    expect(furthest - (first?.start ?? 0)).toBe((lanes.lanes + 1) * segmentBytes)
    await chunks.return?.()
  })

  test('is left at once by a reader who leaves', async () => {
    let open = 0
    await using web = await startWebServer((request, response) => {
      open++
      response.on('close', () => open--)
      const asked = askedFor(request)
      if (!asked.isRange) return void drip(response, asked)
      // Says nothing for longer than the test may take.
      response.writeHead(206, {
        ...pins,
        'content-range': `bytes ${asked.start}-${asked.end - 1}/${body.length}`,
      })
      response.flushHeaders()
    })
    const leaving = new AbortController()
    const reading = fetchFrom(web, { signal: leaving.signal })
    await expect.poll(() => rangesOf(web).length).toBe(4)
    leaving.abort(new Error('left'))
    await expect(reading).rejects.toThrow('left')
    await expect.poll(() => open).toBe(0)
  })

  test('is one stream to a reader that is slower', async () => {
    await using web = await startWebServer(slow)
    await using source = await openHttpSource([webAddress(`${web.origin}/a`)], options)
    const read: Uint8Array[] = []
    for await (const chunk of source.body) {
      read.push(Uint8Array.from(chunk))
      await sleep(15)
    }
    expect(Buffer.concat(read).equals(body)).toBe(true)
    expect(web.requests).toHaveLength(1)
  })
})
