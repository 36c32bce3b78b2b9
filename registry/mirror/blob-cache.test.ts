import type { ServerResponse } from 'node:http'
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { startFlawedRegistry, type FlawedRegistry } from '../../test/fixtures/flawed-registry.ts'
import { startMirrorServer, type MirrorServer } from '../../test/fixtures/mirror-server.ts'
import { filesIn } from '../../test/fixtures/store-at.ts'
import type { Storage } from '../data-store.ts'

const blob = randomBytes(3_000_000)
const digest = digestOf(blob)
const path = `/v2/hub/disk/blobs/${digest}`

let upstream: FlawedRegistry
let mirror: MirrorServer

beforeEach(async () => {
  upstream = await startFlawedRegistry()
  upstream.add({ blob })
  mirror = await startMirrorServer([{ upstream: upstream.origin }])
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
function holdBack(): { go(): void; readonly started: Promise<unknown> } {
  const halfway = Promise.withResolvers<ServerResponse>()
  upstream.flaw((request, response) => {
    if (request.method !== 'GET') return false
    response.writeHead(200, { 'content-length': blob.length })
    response.write(blob.subarray(0, 1_500_000), () => halfway.resolve(response))
    return true
  })
  return {
    started: halfway.promise,
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

  test('reaches its readers also where the store only takes bytes in order', async () => {
    await mirror[Symbol.asyncDispose]()
    const measure = (storage: Storage): Storage => ({ ...storage, files: undefined })
    mirror = await startMirrorServer([{ upstream: upstream.origin }], { measure })
    const rest = holdBack()
    const early = await takeSome(await mirror.get(path), 1_000_000)
    const late = await takeSome(await mirror.get(path), 1_000_000)
    rest.go()
    expect((await early()).equals(blob)).toBe(true)
    expect((await late()).equals(blob)).toBe(true)
    await expect.poll(held).toEqual({ size: blob.length })
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
    const files = () => filesIn(`${mirror.store.path}/v1/data`)
    expect(await files()).toHaveLength(1)
    await mirror.closeMirrors()
    await expect(open.arrayBuffer()).rejects.toThrow('terminated')
    expect(await files()).toEqual([])
  })
})
