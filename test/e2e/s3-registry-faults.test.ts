import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf, type Digest } from '../../core/digest.ts'
import { createHashPool } from '../../core/hash-pool.ts'
import { createLog } from '../../core/log.ts'
import { createMetrics } from '../../registry/metrics.ts'
import { createServer } from '../../registry/http/server.ts'
import { createStore, type Store } from '../../registry/store.ts'
import { noise } from '../fixtures/chunks.ts'
import { faults, startFaultyS3, type FaultyS3 } from '../fixtures/faulty-s3.ts'
import { openTempS3Store } from '../fixtures/s3-server.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { manifestOf } from '../model/gc-world.ts'
import { isNightly } from './nightly.ts'
import { createSeededRandom } from './seeded-random.ts'

const mebibyte = 1024 * 1024
/** Little patience: what fails several times is answered, not waited for. */
const patience = { idleMs: 400, completingMs: 1000, givingUpMs: 5_000, retryDelaysMs: [5, 10, 20] }
const binary = { 'content-type': 'application/octet-stream' }

const owned = new AsyncDisposableStack()
let proxy: FaultyS3
let store: Store
let url: string

beforeAll(async () => {
  const server = owned.use(await startVersitygw())
  proxy = owned.use(await startFaultyS3(server.url))
  const { bucket } = server
  const storage = await openTempS3Store({ url: proxy.url, bucket }, { patience })
  const hashPool = owned.use(createHashPool({ threads: 1 }))
  const log = createLog('silent')
  store = owned.use(await createStore(storage, { hashPool, log }))
  const options = { store, log, metrics: createMetrics(), guard: 'loopback', drainMs: 100 } as const
  const app = owned.use(createServer(options))
  url = await app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  proxy.plan(() => undefined)
  await owned.disposeAsync()
})

/** What no answer may be while the storage fails: only 503 says the right thing. */
const wrongStatuses: string[] = []

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const at = path.startsWith('http') ? path : `${url}${path}`
  const answer = await fetch(at, { redirect: 'error', ...init })
  const { status } = answer
  const isExpected = status < 300 || status === 503 || status === 416 || status === 404
  if (!isExpected) {
    wrongStatuses.push(`${init.method} ${path}: ${status} ${await answer.clone().text()}`)
  }
  return answer
}

/** Tries `step` until it succeeds, as clients do. */
async function stubbornly<T>(step: () => Promise<T | undefined>): Promise<T> {
  for (let attempt = 0; attempt < 300; attempt++) {
    const done = await step()
    if (done !== undefined) return done
    await sleep(5)
  }
  throw new Error(`three hundred attempts failed; ${wrongStatuses.join('; ')}`)
}

async function pushBlob(name: string, bytes: Buffer): Promise<void> {
  const digest = digestOf(bytes)
  let location: string | undefined
  await stubbornly(async () => {
    if (location === undefined) {
      const started = await ask(`/v2/${name}/blobs/uploads/`, { method: 'POST' })
      location = started.headers.get('location') ?? undefined
      return undefined
    }
    const state = await ask(location, { method: 'GET' })
    if (state.status === 404) location = undefined
    if (location === undefined || state.status !== 204) return undefined
    const [, last = '0'] = state.headers.get('range')?.split('-') ?? []
    const offset = last === '0' ? 0 : Number(last) + 1
    const body = new Uint8Array(bytes.subarray(offset, offset + 7 * mebibyte))
    const end = offset + body.length
    if (offset < bytes.length) {
      const headers = { ...binary, 'content-range': `${offset}-${end - 1}` }
      await ask(location, { method: 'PATCH', headers, body })
      return undefined
    }
    const done = await ask(`${location}?digest=${digest}`, { method: 'PUT' })
    return done.status === 201 ? true : undefined
  })
}

async function pushImage(name: string, tag: string, bytes: Buffer): Promise<Digest> {
  const image = manifestOf(bytes)
  await stubbornly(async () => {
    const put = await ask(`/v2/${name}/manifests/${tag}`, {
      method: 'PUT',
      headers: { 'content-type': image.mediaType },
      body: new Uint8Array(image.bytes),
    })
    return put.status === 201 ? true : undefined
  })
  return image.digest
}

/** The bytes under `path`; an answer that breaks off is one more attempt, a whole one is right. */
async function pull(path: string): Promise<Digest> {
  return stubbornly(async () => {
    const answer = await ask(path, { method: 'GET' })
    if (answer.status !== 200) return undefined
    const body = await answer.arrayBuffer().catch(() => undefined)
    return body && digestOf(Buffer.from(body))
  })
}

describe('a registry on S3 that fails all the time', () => {
  it('answers 503 or what is right, and loses nothing', async () => {
    for (let seed = 0; seed < (isNightly ? 40 : 2); seed++) {
      const random = createSeededRandom(seed)
      const rate = 0.05 + 0.3 * random()
      proxy.plan(() => (random() < rate ? faults[Math.floor(random() * faults.length)] : undefined))
      const name = `faulty/r${seed}`
      const bytes = noise(9 * mebibyte + seed)
      await pushBlob(name, bytes)
      const digest = await pushImage(name, 'v1', bytes)
      expect(await pull(`/v2/${name}/blobs/${digestOf(bytes)}`)).toBe(digestOf(bytes))
      expect(await pull(`/v2/${name}/manifests/v1`)).toBe(digest)
      const tags = await stubbornly(async () => {
        const answer = await ask(`/v2/${name}/tags/list`, { method: 'GET' })
        return answer.status === 200 ? answer.json() : undefined
      })
      expect(tags).toMatchObject({ tags: ['v1'] })
    }
    expect(wrongStatuses).toEqual([])
    proxy.plan(() => undefined)
    const found = []
    const { signal } = new AbortController()
    for await (const event of store.admin.fsck({ dataDigests: true, signal })) {
      if ('finding' in event) found.push(event.finding)
    }
    expect(found).toEqual([])
  })
})
