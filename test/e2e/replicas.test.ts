import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { startRoundRobin, type RoundRobin } from '../fixtures/round-robin.ts'
import type { S3Server } from '../fixtures/s3-server.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { startVersitygw } from '../fixtures/versitygw.ts'
import { manifestOf } from '../model/gc-world.ts'
import { isNightly } from './nightly.ts'
import { createSeededRandom } from './seeded-random.ts'

const MiB = 1024 * 1024
const checkpointBytes = 64 * MiB
const kills = isNightly ? 30 : 4
const binary = { 'content-type': 'application/octet-stream' }

const stack = new AsyncDisposableStack()
let s3: S3Server
let proxy: RoundRobin
const replicas: RunningServer[] = []

const startReplica = (): Promise<RunningServer> =>
  startDvcr({ data: `s3://${s3.bucket}/replicas`, args: ['--s3-endpoint', s3.url] })

const useAll = (): void => proxy.use(replicas.map(({ host }) => host))

beforeAll(async () => {
  s3 = stack.use(await startVersitygw())
  proxy = stack.use(await startRoundRobin())
  for (let at = 0; at < 3; at++) replicas.push(await startReplica())
  stack.defer(async () => {
    await Promise.all(replicas.map((replica) => replica[Symbol.asyncDispose]()))
  })
  useAll()
})
afterAll(() => stack.disposeAsync())

/** One request through the proxy; `undefined` where a replica died under it. */
async function ask(path: string, init: RequestInit = {}): Promise<Response | undefined> {
  try {
    const url = path.startsWith('http') ? path : `${proxy.url}${path}`
    return await fetch(url, { redirect: 'error', ...init })
  } catch {
    return undefined
  }
}

const busy = (response: Response | undefined): boolean =>
  response === undefined || response.status >= 500

/** As a patient client: asks how far the upload is, sends the rest, starts anew where it is gone. */
async function pushBlob(name: string, bytes: Buffer): Promise<void> {
  const digest = digestOf(bytes)
  let location: string | undefined
  for (let attempt = 0; attempt < 200; attempt++) {
    if (attempt > 0) await sleep(50)
    if ((await ask(`/v2/${name}/blobs/${digest}`, { method: 'HEAD' }))?.status === 200) return
    if (location === undefined) {
      const started = await ask(`/v2/${name}/blobs/uploads/`, { method: 'POST' })
      location = started?.headers.get('location') ?? undefined
      continue
    }
    const state = await ask(location)
    if (state?.status === 404) location = undefined
    if (!location || state?.status !== 204) continue
    const [, last = '0'] = state.headers.get('range')?.split('-') ?? []
    const offset = last === '0' ? 0 : Number(last) + 1
    const rest = new Uint8Array(bytes.subarray(offset))
    const headers = { ...binary, 'content-range': `${offset}-${bytes.length - 1}` }
    const sent = await ask(location, { method: 'PATCH', headers, body: rest })
    if (sent?.status !== 202 && offset < bytes.length) continue
    const done = await ask(`${location}?digest=${digest}`, { method: 'PUT' })
    if (done?.status === 201) return
    if (done && done.status < 500 && done.status !== 404 && done.status !== 416) {
      throw new Error(`the commit was answered ${done.status}: ${await done.text()}`)
    }
  }
  throw new Error(`the blob ${digest} could not be pushed`)
}

async function pushImage(name: string, tag: string, bytes: Buffer): Promise<string> {
  const image = manifestOf(bytes)
  const headers = { 'content-type': image.mediaType }
  for (;;) {
    await pushBlob(name, bytes)
    const path = `/v2/${name}/manifests/${tag}`
    const put = await ask(path, { method: 'PUT', headers, body: new Uint8Array(image.bytes) })
    if (put?.status === 201) return image.digest
    if (!busy(put))
      throw new Error(`the manifest was answered ${put?.status}: ${await put?.text()}`)
  }
}

async function fetchBlob(host: string, name: string, bytes: Buffer): Promise<Buffer> {
  const answer = await fetch(`http://${host}/v2/${name}/blobs/${digestOf(bytes)}`)
  return Buffer.from(await answer.arrayBuffer())
}

describe('three replicas on one bucket', () => {
  it('take the requests of one upload in turn', async () => {
    const bytes = randomBytes(7 * MiB)
    const started = await ask('/v2/turns/blobs/uploads/', { method: 'POST' })
    const location = started?.headers.get('location') ?? ''
    const step = 1_000_003
    for (let at = 0; at < bytes.length; at += step) {
      const body = new Uint8Array(bytes.subarray(at, at + step))
      const headers = { ...binary, 'content-range': `${at}-${at + body.length - 1}` }
      const sent = await ask(location, { method: 'PATCH', headers, body })
      expect(sent?.status).toBe(202)
      expect(sent?.headers.get('range')).toBe(`0-${at + body.length - 1}`)
    }
    const done = await ask(`${location}?digest=${digestOf(bytes)}`, { method: 'PUT' })
    expect(done?.status).toBe(201)
    for (const { host } of replicas) {
      expect((await fetchBlob(host, 'turns', bytes)).equals(bytes)).toBe(true)
    }
  })

  it('see each other’s tags and deletes at once', async () => {
    const digest = await pushImage('seen', 'v1', Buffer.from('{"seen":1}'))
    for (const { host } of replicas) {
      const answer = await fetch(`http://${host}/v2/seen/manifests/v1`, { method: 'HEAD' })
      expect(answer.headers.get('docker-content-digest')).toBe(digest)
    }
    const deleted = await ask(`/v2/seen/manifests/${digest}`, { method: 'DELETE' })
    expect(deleted?.status).toBe(202)
    for (const { host } of replicas) {
      expect((await fetch(`http://${host}/v2/seen/manifests/v1`)).status).toBe(404)
      expect((await fetch(`http://${host}/v2/seen/manifests/${digest}`)).status).toBe(404)
    }
  })

  it('lose no tag when all move it at once', async () => {
    const images = Array.from({ length: 12 }, (_, n) => Buffer.from(JSON.stringify({ n })))
    const digests = await Promise.all(images.map((bytes) => pushImage('race', 'latest', bytes)))
    const answers = await Promise.all(
      replicas.map(({ host }) => fetch(`http://${host}/v2/race/manifests/latest`)),
    )
    const found = new Set(answers.map(({ headers }) => headers.get('docker-content-digest')))
    expect(found.size).toBe(1)
    expect(digests).toContain([...found][0])
  })

  it('go on with the upload of one that was killed, at most a checkpoint behind', async () => {
    const bytes = randomBytes((isNightly ? 700 : 200) * MiB)
    const [first, second] = replicas
    if (!first || !second) throw new Error('no replicas')
    const started = await fetch(`${first.url}/v2/resumed/blobs/uploads/`, { method: 'POST' })
    const location = started.headers.get('location') ?? ''
    let sent = 0
    async function* body() {
      for (; sent < bytes.length * 0.7; sent += MiB) yield bytes.subarray(sent, sent + MiB)
      await first?.kill9()
      yield bytes.subarray(sent, sent + MiB)
    }
    const patch = { method: 'PATCH', headers: binary, body: body(), duplex: 'half' } as const
    await expect(fetch(`${first.url}${location}`, patch)).rejects.toThrow('fetch failed')
    const state = await fetch(`${second.url}${location}`)
    expect(state.status).toBe(204)
    const offset = Number(state.headers.get('range')?.split('-')[1]) + 1
    expect(sent - offset).toBeLessThanOrEqual(checkpointBytes)
    const rest = new Uint8Array(bytes.subarray(offset))
    const headers = { ...binary, 'content-range': `${offset}-${bytes.length - 1}` }
    const resumed = await fetch(`${second.url}${location}`, {
      method: 'PATCH',
      headers,
      body: rest,
    })
    expect(resumed.status).toBe(202)
    const url = `${second.url}${location}?digest=${digestOf(bytes)}`
    expect((await fetch(url, { method: 'PUT' })).status).toBe(201)
    expect((await fetchBlob(second.host, 'resumed', bytes)).equals(bytes)).toBe(true)
    replicas[0] = await startReplica()
    useAll()
  })

  it('lose nothing that was acknowledged while one after the other is killed', async () => {
    const random = createSeededRandom(4)
    const acknowledged = new Map<string, { bytes: Buffer; digest: string }>()
    let killing = true
    const pushers = [1, 2, 3].map(async (pusher) => {
      for (let n = 0; killing; n++) {
        const bytes = randomBytes(Math.floor(random() * 6 * MiB) + 1)
        const tag = `p${pusher}-${n}`
        acknowledged.set(tag, { bytes, digest: await pushImage('killed', tag, bytes) })
      }
    })
    for (let kill = 0; kill < kills; kill++) {
      await sleep(500 + random() * 1000)
      const at = Math.floor(random() * replicas.length)
      await replicas[at]?.kill9()
      replicas[at] = await startReplica()
      useAll()
    }
    killing = false
    await Promise.all(pushers)
    expect(acknowledged.size).toBeGreaterThan(kills)
    for (const [tag, { bytes, digest }] of acknowledged) {
      const answer = await fetch(`${proxy.url}/v2/killed/manifests/${tag}`)
      expect(answer.headers.get('docker-content-digest')).toBe(digest)
      const host = proxy.url.slice('http://'.length)
      expect((await fetchBlob(host, 'killed', bytes)).equals(bytes)).toBe(true)
    }
  })
})
