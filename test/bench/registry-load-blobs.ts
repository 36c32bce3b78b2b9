import { createHash } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import type { z } from 'zod'
import { contentOf, type Content } from './registry-content.ts'
import type { jobs } from './registry-load-jobs.ts'
import { exchange, type WireAnswer, type WireRequest } from './registry-wire.ts'

type Args<Name extends keyof typeof jobs> = z.output<(typeof jobs)[Name]['args']>

/** Time between two pieces of a throttled upload. */
const throttleMs = 200

export async function prepare({ size }: Args<'prepare'>) {
  contentOf(size, '')
  return {}
}

export async function push({ count, ...args }: Args<'push'>) {
  const contents = Array.from({ length: count }, (_, index) =>
    contentOf(args.size, count === 1 ? args.seed : `${args.seed}-${index}`),
  )
  const started = performance.now()
  const commits = await Promise.all(contents.map((content) => pushBlob(content, args)))
  const slowest = commits.reduce((a, b) => (b.commitMs > a.commitMs ? b : a))
  return { ms: performance.now() - started, ...slowest }
}

/** Pushes one blob by POST, PATCH and PUT; what the PUT took. */
export async function pushBlob(
  content: Content,
  { url, name, size, chunkBytes, bytesPerSecond }: Omit<Args<'push'>, 'count'>,
) {
  let location = await start(url, name)
  for (let at = 0; at < size; at += chunkBytes ?? size) {
    const end = Math.min(size, at + (chunkBytes ?? size))
    const patched = await expectStatus(202, {
      method: 'PATCH',
      url: location,
      headers: bodyHeaders(at, end, chunkBytes !== undefined),
      body:
        bytesPerSecond === undefined ? content.slices(at, end) : slowly(content, bytesPerSecond),
    })
    location = locationOf(patched, url)
  }
  return commit(location, content)
}

export async function pull({ url, name, size, seed, verify }: Args<'pull'>) {
  const { digest } = contentOf(size, seed)
  const sum = createHash('sha256')
  const started = performance.now()
  const { bodyBytes } = await expectStatus(200, {
    method: 'GET',
    url: `${url}/v2/${name}/blobs/${digest}`,
    ...(verify ? { onBody: (bytes: Uint8Array) => void sum.update(bytes) } : {}),
  })
  const ms = performance.now() - started
  if (bodyBytes !== size) throw new Error(`pulled ${bodyBytes} bytes of a blob of ${size}`)
  if (verify && `sha256:${sum.digest('hex')}` !== digest) throw new Error('pulled other bytes')
  return { ms }
}

export async function pushHalf({ url, name, size, seed, bytes }: Args<'pushHalf'>) {
  const content = contentOf(size, seed)
  const location = await start(url, name)
  const { promise: sent, resolve, reject } = Promise.withResolvers<void>()
  const connection = exchange({
    method: 'PATCH',
    url: location,
    headers: bodyHeaders(0, size, false),
    body: (async function* () {
      yield* content.slices(0, bytes)
      resolve()
      // The server is killed meanwhile: this upload never comes to its end.
      await new Promise(() => {})
    })(),
  })
  connection.catch(reject)
  await sent
  return { path: location.slice(url.length) }
}

export async function resume({ url, name, size, seed, path }: Args<'resume'>) {
  const content = contentOf(size, seed)
  const known = await exchange({ method: 'GET', url: url + path })
  const isKnown = known.status === 204
  const end = Number(known.headers.get('range')?.split('-')[1] ?? -1)
  const startedAt = isKnown && end > 0 ? end + 1 : 0
  const location = isKnown ? locationOf(known, url) : await start(url, name)
  const patched = await expectStatus(202, {
    method: 'PATCH',
    url: location,
    headers: bodyHeaders(startedAt, size, startedAt > 0),
    body: content.slices(startedAt, size),
  })
  const { commitMs } = await commit(locationOf(patched, url), content)
  return { startedAt, commitMs }
}

async function start(url: string, name: string): Promise<string> {
  const headers = { 'content-length': 0 }
  const path = `${url}/v2/${name}/blobs/uploads/`
  return locationOf(await expectStatus(202, { method: 'POST', url: path, headers }), url)
}

async function commit(location: string, { digest }: Content) {
  const ending = new URL(location)
  ending.searchParams.set('digest', digest)
  const headers = { 'content-length': 0 }
  const started = performance.now()
  await expectStatus(201, { method: 'PUT', url: ending.href, headers })
  return { commitMs: performance.now() - started, commitAt: performance.timeOrigin + started }
}

function bodyHeaders(from: number, to: number, isChunk: boolean) {
  return {
    'content-type': 'application/octet-stream',
    'content-length': to - from,
    ...(isChunk ? { 'content-range': `${from}-${to - 1}` } : {}),
  }
}

async function* slowly(
  { size, slices }: Content,
  bytesPerSecond: number,
): AsyncGenerator<Uint8Array, void> {
  const step = Math.ceil((bytesPerSecond * throttleMs) / 1000)
  const started = performance.now()
  for (let at = 0, turn = 1; at < size; at += step, turn++) {
    yield* slices(at, Math.min(size, at + step))
    await setTimeout(Math.max(0, started + turn * throttleMs - performance.now()))
  }
}

function locationOf({ headers }: WireAnswer, url: string): string {
  const location = headers.get('location')
  if (location === undefined) throw new Error('an upload was answered without a Location')
  return new URL(location, url).href
}

async function expectStatus(status: number, request: WireRequest): Promise<WireAnswer> {
  const answer = await exchange(request)
  if (answer.status === status) return answer
  throw new Error(`${request.method} ${request.url} was answered ${answer.status}, not ${status}`)
}
