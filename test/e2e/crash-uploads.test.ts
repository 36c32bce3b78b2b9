import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { noise } from '../fixtures/chunks.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { isNightly } from './nightly.ts'
import { createSeededRandom } from './seeded-random.ts'
import { readStoreFolder } from './store-folder.ts'

const mebibyte = 1024 * 1024
const blockBytes = 64 * 1024
const blobBytes = (isNightly ? 1024 : 192) * mebibyte
const seeds = Array.from({ length: isNightly ? 10 : 1 }, (_, index) => index + 1)
const template = noise(blockBytes)
const type = { 'content-type': 'application/octet-stream' }

/** Bytes `[start, end)` of the blob: no two blocks are equal, so that none can stand in for another. */
function* contentOf(start: number, end: number): Generator<Buffer, void> {
  for (let at = start; at < end;) {
    const block = Buffer.from(template)
    block.writeUInt32BE(Math.floor(at / blockBytes))
    const from = at % blockBytes
    const piece = block.subarray(from, Math.min(blockBytes, from + end - at))
    at += piece.length
    yield piece
  }
}

const digest = (() => {
  const hash = createHash('sha256')
  for (const piece of contentOf(0, blobBytes)) hash.update(piece)
  return `sha256:${hash.digest('hex')}`
})()

interface Sending {
  readonly method: 'PATCH' | 'PUT'
  readonly start: number
  readonly end: number
  readonly headers?: Record<string, string | number>
  readonly onSent: (end: number) => void
}

/** Sends the blob's bytes in one request; the status, `undefined` where the connection broke. */
async function send(url: string, sending: Sending): Promise<number | undefined> {
  const { method, start, end, onSent } = sending
  const outgoing = request(url, { method, headers: { ...type, ...sending.headers } })
  const answered = new Promise<number | undefined>((resolve) => {
    outgoing.once('error', () => resolve(undefined))
    outgoing.once('response', (response) => {
      response.resume()
      resolve(response.statusCode)
    })
  })
  let at = start
  for (const piece of contentOf(start, end)) {
    const isTaken = new Promise<boolean>((resolve) =>
      outgoing.write(piece, (error) => resolve(!error)),
    )
    if (!(await Promise.race([isTaken, answered.then(() => false)]))) break
    at += piece.length
    onSent(at)
  }
  outgoing.end()
  return answered
}

async function startUpload(server: RunningServer): Promise<string> {
  const response = await fetch(`${server.url}/v2/crashed/blobs/uploads/`, { method: 'POST' })
  expect(response.status).toBe(202)
  return response.headers.get('location') ?? ''
}

async function offsetOf(server: RunningServer, location: string): Promise<number> {
  const response = await fetch(server.url + location)
  expect(response.status).toBe(204)
  const [, last = ''] = /^0-(\d+)$/.exec(response.headers.get('range') ?? '') ?? []
  return last === '0' ? 0 : Number(last) + 1
}

/** How a client sends `[start, blobBytes)`, up to and including the commit. */
const ways = {
  'one PATCH': async (url, start, onSent) => {
    const patched = await send(url, { method: 'PATCH', start, end: blobBytes, onSent })
    if (patched !== 202) return patched
    return (await fetch(`${url}?digest=${digest}`, { method: 'PUT' })).status
  },
  'many chunks': async (url, start, onSent) => {
    const chunkBytes = 13_000_001
    for (let at = start; at < blobBytes; at += chunkBytes) {
      const end = Math.min(blobBytes, at + chunkBytes)
      const headers = { 'content-range': `${at}-${end - 1}`, 'content-length': end - at }
      const patched = await send(url, { method: 'PATCH', start: at, end, headers, onSent })
      if (patched !== 202) return patched
    }
    return (await fetch(`${url}?digest=${digest}`, { method: 'PUT' })).status
  },
  'one PUT': (url, start, onSent) =>
    send(`${url}?digest=${digest}`, {
      method: 'PUT',
      start,
      end: blobBytes,
      headers: {
        'content-length': blobBytes - start,
        'content-range': `${start}-${blobBytes - 1}`,
      },
      onSent,
    }),
} satisfies Record<
  string,
  (url: string, start: number, onSent: (end: number) => void) => Promise<number | undefined>
>

/** Sends until the server is killed at about `killAt`; how far the client had come. */
async function sendUntilKilled(
  server: RunningServer,
  send: (onSent: (end: number) => void) => Promise<number | undefined>,
  { killAt, delayMs }: { readonly killAt: number; readonly delayMs: number },
): Promise<number> {
  let sent = 0
  let killing: Promise<void> | undefined
  const status = await send((end) => {
    sent = end
    if (end >= killAt) killing ??= sleep(delayMs).then(() => server.kill9())
  })
  await killing
  // It may just have been acknowledged.
  expect([undefined, 202]).toContain(status)
  return sent
}

/** Bytes that the process has read so far, from sockets and files. */
async function bytesRead(pid: number): Promise<number> {
  const io = await readFile(`/proc/${pid}/io`, 'utf8')
  return Number(/^rchar: (\d+)$/m.exec(io)?.[1])
}

async function digestOfBlob(server: RunningServer): Promise<string> {
  const response = await fetch(`${server.url}/v2/crashed/blobs/${digest}`)
  const hash = createHash('sha256')
  for await (const chunk of response.body ?? []) hash.update(chunk)
  return `sha256:${hash.digest('hex')}`
}

describe.each(Object.entries(ways))('an upload in %s whose server is killed', (_way, send) => {
  it.each(seeds)(
    'loses at most 64 MiB and is not read again from its start (seed %i)',
    async (seed) => {
      const random = createSeededRandom(seed)
      await using data = await createTempFolder()
      const kill = { killAt: blobBytes * (0.5 + 0.4 * random()), delayMs: 200 * random() }
      const first = await startDvcr({ data: data.path })
      const location = await startUpload(first)
      const sent = await sendUntilKilled(
        first,
        (onSent) => send(first.url + location, 0, onSent),
        kill,
      )

      await using server = await startDvcr({ data: data.path })
      const offset = await offsetOf(server, location)
      expect(sent - offset).toBeLessThanOrEqual(64 * mebibyte)
      expect(offset).toBeGreaterThan(0)
      const readBefore = await bytesRead(server.pid)
      expect(await send(server.url + location, offset, () => {})).toBe(201)
      const read = (await bytesRead(server.pid)) - readBefore
      // The rest came through the socket; hashing the start again would have read it too.
      expect(read).toBeLessThan(blobBytes - offset + Math.min(offset, 16 * mebibyte))

      expect(await digestOfBlob(server)).toBe(digest)
      const contents = await readStoreFolder(data.path)
      const clean = { broken: [], orphans: [], uploads: [], scratch: [] }
      expect(contents).toMatchObject({ ...clean, blobs: [digest] })
    },
  )
})
