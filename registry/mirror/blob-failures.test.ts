import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import { startFlawedRegistry, type FlawedRegistry } from '../../test/fixtures/flawed-registry.ts'
import { startMirrorServer, type MirrorServer } from '../../test/fixtures/mirror-server.ts'
import { filesIn } from '../../test/fixtures/store-at.ts'
import type { Storage } from '../data-store.ts'
import { defaultPolicy } from '../store.ts'

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

async function pull(): Promise<Buffer> {
  const response = await mirror.get(path)
  expect(response.status).toBe(200)
  return Buffer.from(await response.arrayBuffer())
}

async function pullStatus(): Promise<number> {
  const response = await mirror.get(path)
  await response.arrayBuffer()
  return response.status
}

const held = () => mirror.store.registry.repository('hub/disk').blobs.stat(digest)
/** What a blob that was not kept has left in the store. */
const leftovers = async (): Promise<string[]> =>
  (await filesIn(mirror.store.path)).filter((file) => /\/v1\/(?:data|uploads)\//.test(file))
const gets = (): string[] => upstream.asked().filter((asked) => asked.startsWith('GET'))

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
    await expect(response.arrayBuffer()).rejects.toThrow('terminated')
    await expect.poll(leftovers).toEqual([])
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
    // The fill that failed may still be on its way out.
    await expect.poll(pullStatus).toBe(200)
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

describe('a store', () => {
  const restart = async (options: Parameters<typeof startMirrorServer>[1]): Promise<void> => {
    await mirror[Symbol.asyncDispose]()
    mirror = await startMirrorServer([{ upstream: upstream.origin }], options)
  }

  test('whose quota does not allow the blob keeps nothing; clients get it', async () => {
    const quotas = [{ prefix: 'hub/', limitBytes: blob.length - 1 }]
    await restart({ policy: { ...defaultPolicy, quotas } })
    expect((await pull()).equals(blob)).toBe(true)
    expect(await held()).toBeUndefined()
    expect(await leftovers()).toEqual([])
  })

  test('that fails in the middle of a blob keeps nothing; clients get it', async () => {
    await restart({ measure: failing })
    expect((await pull()).equals(blob)).toBe(true)
    expect(await held()).toBeUndefined()
    await expect.poll(leftovers).toEqual([])
  })
})

/** Storage whose data objects take their first bytes only. */
function failing(storage: Storage): Storage {
  const { files } = storage
  if (!files) throw new Error('this storage has no files')
  return {
    ...storage,
    files: {
      ...files,
      async create(uuid) {
        const file = await files.create(uuid)
        return {
          ...file,
          async write(position, bytes) {
            if (position > 0) throw new CodedError('STORAGE_FULL', 'no space left')
            await file.write(position, bytes)
          },
        }
      },
    },
  }
}
