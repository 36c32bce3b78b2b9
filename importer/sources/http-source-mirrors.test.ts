import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { collect, noise } from '../../test/fixtures/chunks.ts'
import { freePort } from '../../test/fixtures/ports.ts'
import { startWebServer, withStatus, type Answer } from '../../test/fixtures/web-server.ts'
import { openHttpSource, webAddress } from './http-source.ts'
import type { WebAddress } from './web-content.ts'

const body = noise(300_000)
const half = body.length / 2
const { signal } = new AbortController()
const options = { signal, retryDelaysMs: [1, 1] }

const send: Answer = (request, response) => sendAs('"one"', request, response)

function sendAs(etag: string, request: IncomingMessage, response: ServerResponse): void {
  const found = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
  const start = Number(found?.[1] ?? 0)
  const rest = body.subarray(start)
  const range = `bytes ${start}-${body.length - 1}/${body.length}`
  response.writeHead(found ? 206 : 200, {
    etag,
    'content-length': rest.length,
    ...(found ? { 'content-range': range } : {}),
  })
  response.end(rest)
}

/** Half of it once, then nothing any more. */
const dying: Answer = (_request, response, count) => {
  if (count > 1) return void response.writeHead(404).end()
  response.writeHead(200, { etag: '"one"', 'content-length': body.length })
  response.write(body.subarray(0, half), () => response.destroy())
}

/** All of it in drops that never end. */
const dripping: Answer = (_request, response) => {
  response.writeHead(200, { etag: '"one"', 'content-length': body.length })
  let at = 0
  const timer = setInterval(() => response.write(body.subarray(at, ++at)), 5)
  response.once('close', () => clearInterval(timer))
}

async function fetchFrom(addresses: WebAddress[], change: object = {}): Promise<Buffer> {
  await using source = await openHttpSource(addresses, { ...options, ...change })
  return await collect(source.body)
}

describe('a mirror', () => {
  test('is not asked while the source is there', async () => {
    await using web = await startWebServer(send)
    await using mirror = await startWebServer(send)
    const addresses = [webAddress(web.origin), webAddress(mirror.origin)]
    expect((await fetchFrom(addresses)).equals(body)).toBe(true)
    expect(mirror.requests).toHaveLength(0)
  })

  test.each([404, 403, 500, 'nobody'])('has it where the source answers %s', async (status) => {
    await using web = await startWebServer(withStatus(typeof status === 'number' ? status : 500))
    await using mirror = await startWebServer(send)
    const source = status === 'nobody' ? `http://127.0.0.1:${await freePort()}` : web.origin
    const addresses = [webAddress(source), webAddress(mirror.origin)]
    expect((await fetchFrom(addresses)).equals(body)).toBe(true)
  })

  test('that fails too is told together with the source', async () => {
    await using web = await startWebServer(withStatus(404))
    await using mirror = await startWebServer(withStatus(403))
    const addresses = [webAddress(`${web.origin}/a`), webAddress(`${mirror.origin}/b`)]
    const failure = fetchFrom(addresses)
    await expect(failure).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' })
    await expect(failure).rejects.toThrow(/a answered 404.*b answered 403/)
    expect([web.requests.length, mirror.requests.length]).toEqual([1, 1])
  })

  test('goes on where the source broke, if a checksum will be compared', async () => {
    await using web = await startWebServer(dying)
    await using mirror = await startWebServer((request, response) =>
      sendAs('"2"', request, response),
    )
    const addresses = [webAddress(web.origin), webAddress(mirror.origin)]
    expect((await fetchFrom(addresses, { isChecked: true })).equals(body)).toBe(true)
    const ranges = mirror.requests.map(({ headers }) => headers.range)
    expect(ranges).toEqual([undefined, `bytes=${half}-`])
  })

  test.each([
    ['without a checksum, though its ETag is the same', false, send],
    [
      'where it has another length',
      true,
      (_request, response) => void response.end(body.subarray(1)),
    ],
    ['where it has no ranges and pins nothing', true, (_in, response) => void response.end(body)],
  ] satisfies [string, boolean, Answer][])(
    'never goes on with the middle of it %s, but has the next start',
    async (_why, isChecked, answer) => {
      await using web = await startWebServer(dying)
      await using mirror = await startWebServer(answer)
      const addresses = [webAddress(web.origin), webAddress(mirror.origin)]
      await expect(fetchFrom(addresses, { isChecked })).rejects.toMatchObject({
        code: 'SOURCE_TRUNCATED',
        retryable: true,
      })
      expect(addresses[0]?.label).toContain(mirror.origin)
      expect((await fetchFrom(addresses)).length).toBeGreaterThan(half)
    },
  )

  test('takes over from a source that is slower than allowed', async () => {
    await using web = await startWebServer(dripping)
    await using mirror = await startWebServer(send)
    const addresses = [webAddress(web.origin), webAddress(mirror.origin)]
    const floorSpeed = { bytesPerSecond: 100_000, windowMs: 50 }
    const fetched = await fetchFrom(addresses, { floorSpeed, isChecked: true })
    expect(fetched.equals(body)).toBe(true)
  })
})

describe('a source that is too slow', () => {
  const floorSpeed = { bytesPerSecond: 100_000, windowMs: 50 }

  test('is given up after so many tries', async () => {
    await using web = await startWebServer((request, response, count) => {
      const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
      if (start === 0) return dripping(request, response, count)
      const headers = {
        etag: '"one"',
        'content-length': body.length - start,
        'content-range': `bytes ${start}-${body.length - 1}/${body.length}`,
      }
      response.writeHead(206, headers)
      let at = start
      const timer = setInterval(() => response.write(body.subarray(at, ++at)), 5)
      response.once('close', () => clearInterval(timer))
    })
    const failure = fetchFrom([webAddress(web.origin)], { floorSpeed })
    await expect(failure).rejects.toMatchObject({ code: 'SOURCE_UNAVAILABLE' })
    await expect(failure).rejects.toThrow('fewer than 100000 bytes per second')
    expect(web.requests).toHaveLength(1 + options.retryDelaysMs.length)
  })

  test('may be so by a byte for each connection', async () => {
    await using web = await startWebServer((request, response) => {
      const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
      response.writeHead(start === 0 ? 200 : 206, {
        etag: '"one"',
        'content-length': body.length - start,
        ...(start && { 'content-range': `bytes ${start}-${body.length - 1}/${body.length}` }),
      })
      response.write(body.subarray(start, start + 1), () => response.destroy())
    })
    const failure = fetchFrom([webAddress(web.origin)], { floorSpeed })
    await expect(failure).rejects.toMatchObject({ code: 'SOURCE_UNAVAILABLE' })
  })

  test('is not the one whose reader takes its time', async () => {
    await using web = await startWebServer(send)
    const slowly = { ...options, floorSpeed }
    await using source = await openHttpSource([webAddress(web.origin)], slowly)
    let size = 0
    for await (const chunk of source.body) {
      await sleep(20)
      size += chunk.length
    }
    expect(size).toBe(body.length)
  })

  test('is as broken where nothing comes at all', async () => {
    await using web = await startWebServer((request, response, count) => {
      if (count > 1) return send(request, response, count)
      response.writeHead(200, { etag: '"one"', 'content-length': body.length })
      response.write(body.subarray(0, half))
    })
    // The clock of the client goes by seconds.
    const silent = { bytesPerSecond: 0, windowMs: 1000 }
    const fetched = await fetchFrom([webAddress(web.origin)], { floorSpeed: silent })
    expect(fetched.equals(body)).toBe(true)
  })
})
