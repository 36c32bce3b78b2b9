import type { ServerResponse } from 'node:http'
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { startFlawedRegistry, type FlawedRegistry } from '../../test/fixtures/flawed-registry.ts'
import { startMirrorServer, type MirrorServer } from '../../test/fixtures/mirror-server.ts'
import { filesIn } from '../../test/fixtures/store-at.ts'

const blob = randomBytes(3_000_000)
const digest = digestOf(blob)
const path = `/v2/hub/disk/blobs/${digest}`

let upstream: FlawedRegistry
let mirror: MirrorServer

beforeEach(async () => {
  upstream = await startFlawedRegistry()
  upstream.add({ blob })
  mirror = await startMirrorServer({ upstream: upstream.origin })
})
afterEach(async () => {
  await mirror[Symbol.asyncDispose]()
  await upstream[Symbol.asyncDispose]()
})

async function pull(headers: Record<string, string> = {}, at = path): Promise<Buffer> {
  const response = await mirror.get(at, headers)
  expect([200, 206]).toContain(response.status)
  return Buffer.from(await response.arrayBuffer())
}

const held = () => mirror.store.registry.repository('hub/disk').blobs.stat(digest)
const gets = (): string[] => upstream.asked().filter((asked) => asked.startsWith('GET'))

/** Sends the first half of the blob and leaves the rest to `go()`. */
function holdBack(): { go(): void; readonly started: Promise<void> } {
  const halfway = Promise.withResolvers<ServerResponse>()
  upstream.flaw((request, response) => {
    if (request.method !== 'GET') return false
    response.writeHead(200, { 'content-length': blob.length })
    response.write(blob.subarray(0, 1_500_000), () => halfway.resolve(response))
    return true
  })
  return {
    started: halfway.promise.then(() => {}),
    go: () => void halfway.promise.then((response) => response.end(blob.subarray(1_500_000))),
  }
}

async function* bodyOf(response: Response): AsyncGenerator<Uint8Array, void> {
  if (response.body) yield* response.body
}

/** Takes at least `bytes` and answers how to get all. */
async function takeSome(response: Response, bytes: number) {
  const chunks: Uint8Array[] = []
  const body = bodyOf(response)
  let taken = 0
  while (taken < bytes) {
    const { done, value } = await body.next()
    if (done === true) throw new Error(`the body ended after ${taken} bytes`)
    chunks.push(value)
    taken += value.length
  }
  return async (): Promise<Buffer> => {
    for await (const chunk of body) chunks.push(chunk)
    return Buffer.concat(chunks)
  }
}

describe('a blob that is not held', () => {
  test('is held after its first pull', async () => {
    expect((await pull()).equals(blob)).toBe(true)
    await expect.poll(held).toEqual({ size: blob.length })
    upstream.forget()
    expect((await pull()).equals(blob)).toBe(true)
    expect((await pull({ range: 'bytes=5-9' })).equals(blob.subarray(5, 10))).toBe(true)
    expect(upstream.asked()).toEqual([])
  })

  test('is fetched once for 100 clients at the same time', async () => {
    const pulled = await Promise.all(Array.from({ length: 100 }, () => pull()))
    expect(pulled.every((bytes) => bytes.equals(blob))).toBe(true)
    expect(upstream.asked()).toHaveLength(2)
    expect(gets()).toHaveLength(1)
  })

  test('is described without being fetched', async () => {
    const head = await fetch(`${mirror.url}${path}`, { method: 'HEAD' })
    expect(head.status).toBe(200)
    expect(head.headers.get('content-length')).toBe(String(blob.length))
    expect(gets()).toEqual([])
  })

  test('is answered 404 where the upstream has none, which is asked once', async () => {
    const missing = `/v2/hub/disk/blobs/${digestOf(Buffer.from('none'))}`
    expect((await mirror.get(missing)).status).toBe(404)
    expect((await mirror.get(missing)).status).toBe(404)
    expect(upstream.asked()).toHaveLength(1)
  })

  test('is passed on by range, and not kept', async () => {
    const part = await pull({ range: 'bytes=1000-1999' })
    expect(part.equals(blob.subarray(1000, 2000))).toBe(true)
    expect(await held()).toBeUndefined()
    expect(upstream.requests().at(-1)?.headers.range).toBe('bytes=1000-1999')
  })

  test('is not fetched where another repository of the mirror holds it', async () => {
    await pull()
    await expect.poll(held).toBeDefined()
    upstream.forget()
    const other = `/v2/hub/other/blobs/${digest}`
    expect((await pull({}, other)).equals(blob)).toBe(true)
    expect(upstream.asked()).toEqual([`HEAD /v2/other/blobs/${digest}`])
  })

  test('of no bytes is served', async () => {
    const empty = Buffer.alloc(0)
    upstream.add({ blob: empty })
    expect(await pull({}, `/v2/hub/disk/blobs/${digestOf(empty)}`)).toHaveLength(0)
  })
})

describe('a blob on its way from the upstream', () => {
  test('reaches all its readers while it comes, whenever they begin', async () => {
    const rest = holdBack()
    const early = await takeSome(await mirror.get(path), 1_000_000)
    const late = await takeSome(await mirror.get(path), 1_000_000)
    const part = await pull({ range: 'bytes=1000-1000999' })
    expect(part.equals(blob.subarray(1000, 1_001_000))).toBe(true)
    rest.go()
    expect((await early()).equals(blob)).toBe(true)
    expect((await late()).equals(blob)).toBe(true)
    expect(gets()).toHaveLength(1)
  })

  test('still comes for the others where a client goes away', async () => {
    const rest = holdBack()
    const leaving = new AbortController()
    const first = await fetch(`${mirror.url}${path}`, { signal: leaving.signal })
    await takeSome(first, 1000)
    const second = await takeSome(await mirror.get(path), 1000)
    leaving.abort()
    rest.go()
    expect((await second()).equals(blob)).toBe(true)
    expect(gets()).toHaveLength(1)
  })

  test('goes on where a client comes back after all have gone', async () => {
    const rest = holdBack()
    const leaving = new AbortController()
    await takeSome(await fetch(`${mirror.url}${path}`, { signal: leaving.signal }), 1000)
    leaving.abort()
    const resumed = await mirror.get(path, { range: 'bytes=1000-' })
    const finish = await takeSome(resumed, 1000)
    rest.go()
    expect((await finish()).equals(blob.subarray(1000))).toBe(true)
    expect(gets()).toHaveLength(1)
  })

  test('is given up, without a trace, where nobody comes back', async () => {
    holdBack()
    const leaving = new AbortController()
    await takeSome(await fetch(`${mirror.url}${path}`, { signal: leaving.signal }), 1000)
    leaving.abort()
    await expect.poll(() => filesIn(`${mirror.store.path}/v1/data`)).toEqual([])
    upstream.flaw(undefined)
    expect((await pull()).equals(blob)).toBe(true)
  })

  test('is given up, without a trace, where the server stops', async () => {
    const rest = holdBack()
    const open = await mirror.get(path)
    await rest.started
    const files = async (): Promise<string[]> => filesIn(`${mirror.store.path}/v1/data`)
    expect(await files()).toHaveLength(1)
    const broken = expect(open.arrayBuffer()).rejects.toThrow()
    await mirror[Symbol.asyncDispose]()
    await broken
    mirror = await startMirrorServer({ upstream: upstream.origin })
  })
})

describe('an upstream that breaks off', () => {
  /** Cuts the first `times` transfers after so many bytes each. */
  function cut(times: number, { ranges }: { readonly ranges: boolean }): void {
    let left = times
    upstream.flaw((request, response) => {
      if (request.method !== 'GET') return false
      if (left === 0) {
        if (ranges) return false
        response.writeHead(200, { 'content-length': blob.length }).end(blob)
        return true
      }
      left -= 1
      const start = ranges ? Number(/\d+/.exec(request.headers.range ?? '0')?.[0]) : 0
      const range = { 'content-range': `bytes ${start}-${blob.length - 1}/${blob.length}` }
      response.writeHead(start > 0 ? 206 : 200, {
        'content-length': blob.length - start,
        ...(start > 0 ? range : {}),
      })
      response.write(blob.subarray(start, start + 500_000), () => response.destroy())
      return true
    })
  }

  test.each([1, 3])('%i times is gone on with by range', async (times) => {
    cut(times, { ranges: true })
    expect((await pull()).equals(blob)).toBe(true)
    const ranges = upstream.requests().flatMap(({ headers }) => headers.range ?? [])
    expect(ranges).toHaveLength(times)
    await expect.poll(held).toEqual({ size: blob.length })
  })

  test('and has no ranges is read again, each byte passed on once', async () => {
    cut(1, { ranges: false })
    expect((await pull()).equals(blob)).toBe(true)
    await expect.poll(held).toEqual({ size: blob.length })
  })
})

describe('an upstream that sends something else', () => {
  async function expectCut(response: Response): Promise<void> {
    await expect(response.arrayBuffer()).rejects.toThrow()
    await expect.poll(() => filesIn(`${mirror.store.path}/v1/data`)).toEqual([])
    expect(await held()).toBeUndefined()
  }

  function send(bytes: Uint8Array, size = bytes.length): void {
    upstream.flaw((request, response) => {
      if (request.method !== 'GET') return false
      response.writeHead(200, { 'content-length': size }).end(bytes)
      return true
    })
  }

  test('of the right length is found out: no client takes it for whole', async () => {
    send(randomBytes(blob.length))
    await expectCut(await mirror.get(path))
    upstream.flaw(undefined)
    expect((await pull()).equals(blob)).toBe(true)
  })

  test.each([blob.length - 1, blob.length + 1])('of %i bytes is an error', async (size) => {
    send(Buffer.concat([blob, Buffer.alloc(1)]).subarray(0, size))
    expect((await mirror.get(path)).status).toBe(502)
    expect(gets()).toHaveLength(1)
  })

  test.each([
    [404, 502, 1],
    [403, 403, 1],
    [500, 502, 3],
  ])('(%i, though HEAD was 200) is answered %i', async (status, answer, asked) => {
    upstream.flaw((request, response) => {
      if (request.method === 'GET') response.writeHead(status).end()
      return request.method === 'GET'
    })
    const response = await mirror.get(path)
    expect(response.status).toBe(answer)
    expect(response.headers.get('cache-control')).toBeNull()
    expect(await response.json()).toMatchObject({ errors: [{ message: expect.any(String) }] })
    expect(gets()).toHaveLength(asked)
    upstream.flaw(undefined)
    expect((await pull()).equals(blob)).toBe(true)
  })
})
