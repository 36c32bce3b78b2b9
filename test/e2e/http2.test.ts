import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { open, writeFile } from 'node:fs/promises'
import { constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createAuthority } from '../fixtures/certificates.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { connectHttp2, frame, headersFrame, resetFrame } from './http2-frames.ts'
import { startTlsServer, type HttpVersion, type TlsServer } from './tls-server.ts'

const versions = ['1.1', '2'] as const
const octets = { 'content-type': 'application/octet-stream' }
const mebibyte = 1024 * 1024
const bigSize = 256 * mebibyte
/** Largest payload that every server takes. */
const frameBytes = 16_384

const owned = new AsyncDisposableStack()
let server: TlsServer
let folder: string
let big: string
let bigDigest: string

beforeAll(async () => {
  folder = owned.use(await createTempFolder()).path
  const authority = await createAuthority(folder)
  const files = await authority.issue('server')
  const data = join(folder, 'data')
  server = owned.use(await startTlsServer({ data, ca: authority.ca, files }))
  big = join(folder, 'big')
  await using file = await open(big, 'w')
  const block = randomBytes(mebibyte)
  const hash = createHash('sha256')
  for (let index = 0; index < bigSize / mebibyte; index += 1) {
    block.writeUInt32BE(index)
    hash.update(block)
    await file.write(block)
  }
  bigDigest = `sha256:${hash.digest('hex')}`
})
afterAll(() => owned.disposeAsync())

async function session(): Promise<ClientHttp2Session> {
  const opened = owned.adopt(await server.connect(), (open) => open.destroy())
  // A session that the server or the test cuts fails its streams, which say so.
  opened.on('error', () => {})
  return opened
}

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: Buffer
}

async function answerTo(stream: ClientHttp2Stream): Promise<Answer> {
  stream.on('error', () => {})
  const [headers]: Record<string, unknown>[] = await once(stream, 'response')
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return {
    status: Number(headers?.[':status']),
    headers: headers ?? {},
    body: Buffer.concat(chunks),
  }
}

function send(via: ClientHttp2Session, method: string, path: string, body?: Uint8Array) {
  const fields = { ':method': method, ':path': path, ...(body ? octets : {}) }
  const stream = via.request(fields, { endStream: body === undefined })
  if (body) stream.end(body)
  return answerTo(stream)
}

async function startUpload(via: ClientHttp2Session): Promise<string> {
  const { headers } = await send(via, 'POST', '/v2/a/blobs/uploads/')
  return String(headers['location'])
}

const digestOf = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return `sha256:${hash.digest('hex')}`
}

/** Bytes of blobs that the server has taken so far. */
async function takenBytes(): Promise<number> {
  const { body } = await server.curl('2', [`${server.url}/metrics`])
  const [, taken = '0'] = /^dvcr_blob_bytes_total\{direction="in"\} (\d+)$/m.exec(body) ?? []
  return Number(taken)
}

/** Sends `bytes` as the begin of an upload's body, and waits until the server has them. */
async function sendPart(path: string, bytes: Uint8Array): Promise<TLSSocket> {
  const before = await takenBytes()
  const { host: authority, port } = new URL(server.url)
  const socket = owned.adopt(await connectHttp2(Number(port)), (open) => void open.destroy())
  const fields = { ':method': 'PATCH', ':scheme': 'https', ':path': path, ':authority': authority }
  socket.write(headersFrame(1, { ...fields, ...octets }))
  for (let at = 0; at < bytes.length; at += frameBytes) {
    socket.write(frame('data', { stream: 1, payload: bytes.subarray(at, at + frameBytes) }))
  }
  await expect.poll(takenBytes, { timeout: 10_000 }).toBe(before + bytes.length)
  return socket
}

/** Once the request before has let go of the session: how much of it was kept. */
async function keptBytes(via: ClientHttp2Session, path: string): Promise<number> {
  const { headers } = await send(via, 'GET', path)
  const end = Number(String(headers['range']).split('-')[1])
  return end === 0 ? 0 : end + 1
}

describe.each<HttpVersion>(versions)('over HTTP/%s', (version) => {
  it('256 MiB are pushed and pulled', async () => {
    const start = ['-X', 'POST', '-D', '-', '-o', join(folder, 'none')]
    const { body: head } = await server.curl(version, [
      ...start,
      `${server.url}/v2/a/blobs/uploads/`,
    ])
    const [, location] = /^location: (\S+)/im.exec(head) ?? []
    const put = ['-T', big, '-H', 'Expect:', '-H', 'content-type: application/octet-stream']
    const pushed = await server.curl(version, [
      ...put,
      `${server.url}${location}?digest=${bigDigest}`,
    ])
    expect(pushed).toMatchObject({ status: 201, version, uploaded: bigSize, exitCode: 0 })
    const pulled = join(folder, `pulled-${version}`)
    const url = `${server.url}/v2/a/blobs/${bigDigest}`
    const answer = await server.curl(version, ['-o', pulled, url])
    expect(answer).toMatchObject({ status: 200, version, exitCode: 0 })
    expect(await fileDigest(pulled)).toBe(bigDigest)
    const removed = await server.curl(version, ['-X', 'DELETE', url])
    expect(removed.status).toBe(202)
  })

  it.each([
    ['a name that is none', 'UPPER/manifests/x', 'application/json', 400],
    ['a manifest that is too large', 'a/manifests/x', 'application/json', 413],
    ['a type that forms send', 'a/manifests/x', 'text/plain', 415],
    ['no endpoint', 'nothing', 'application/octet-stream', 404],
    ['no digest', 'a/blobs/uploads/x?digest=sha256:x', 'application/octet-stream', 400],
  ])('%s is refused while its 256 MiB are still sent', async (_what, path, type, status) => {
    const headers = ['-H', `content-type: ${type}`, '-H', 'Expect:']
    const url = `${server.url}/v2/${path}`
    const answer = await server.curl(version, ['-T', big, ...headers, url])
    expect(answer.status).toBe(status)
    expect(JSON.parse(answer.body)).toMatchObject({ errors: [{ code: expect.any(String) }] })
    expect(answer.uploaded).toBeLessThan(bigSize / 2)
  })

  it('a client that asks first is told to send, or why not', async () => {
    const bytes = randomBytes(100_000)
    const file = join(folder, `asked-${version}`)
    await writeFile(file, bytes)
    const ask = ['-X', 'POST', '--data-binary', `@${file}`, '-H', 'Expect: 100-continue']
    const type = ['-H', 'content-type: application/octet-stream']
    const url = (name: string) =>
      `${server.url}/v2/${name}/blobs/uploads/?digest=${digestOf(bytes)}`
    expect((await server.curl(version, [...ask, ...type, url('a')])).status).toBe(201)
    const refused = await server.curl(version, [...ask, ...type, url('UPPER')])
    expect(refused.status).toBe(400)
    expect(JSON.parse(refused.body)).toMatchObject({ errors: [{ code: 'NAME_INVALID' }] })
  })
})

describe('an upload by HTTP/2', () => {
  const bytes = randomBytes(100_000)
  const digest = digestOf(bytes)
  // What a client may send before it knows the server's own window.
  const part = bytes.subarray(0, 3 * frameBytes)

  it.each([
    ['is reset', (socket: TLSSocket) => socket.write(resetFrame(1, constants.NGHTTP2_CANCEL))],
    // The body looks complete then.
    [
      'is reset without an error',
      (socket: TLSSocket) => socket.write(resetFrame(1, constants.NGHTTP2_NO_ERROR)),
    ],
    ['loses its connection', (socket: TLSSocket) => void socket.destroy()],
  ])('that %s keeps what arrived, and goes on elsewhere', async (_how, cut) => {
    const via = await session()
    const path = await startUpload(via)
    cut(await sendPart(path, part))
    await expect.poll(() => keptBytes(via, path), { timeout: 10_000 }).toBe(part.length)
    const file = join(folder, 'rest')
    await writeFile(file, bytes.subarray(part.length))
    const type = ['-H', 'content-type: application/octet-stream', '-T', file]
    const url = `${server.url}${path}?digest=${digest}`
    expect((await server.curl('1.1', [...type, url])).status).toBe(201)
    expect((await send(via, 'GET', `/v2/a/blobs/${digest}`)).body.equals(bytes)).toBe(true)
  })
})

describe('one HTTP/2 connection', () => {
  it('carries many requests, small ones beside large ones', async () => {
    const via = await session()
    const large = randomBytes(32 * mebibyte)
    const post = (body: Uint8Array) =>
      send(via, 'POST', `/v2/b/blobs/uploads/?digest=${digestOf(body)}`, body)
    const get = (body: Uint8Array) => send(via, 'GET', `/v2/b/blobs/${digestOf(body)}`)
    expect((await post(large)).status).toBe(201)
    const small = Array.from({ length: 100 }, (_, index) => randomBytes(1000 + index * 100))
    const down = get(large)
    const up = await Promise.all(small.map((body) => post(body)))
    expect(new Set(up.map(({ status }) => status))).toEqual(new Set([201]))
    const back = await Promise.all(small.map((body) => get(body)))
    expect(back.every(({ body }, index) => body.equals(small[index] ?? Buffer.of()))).toBe(true)
    expect((await down).body.equals(large)).toBe(true)
  })

  it('goes on when one of its downloads is given up', async () => {
    const via = await session()
    const bytes = randomBytes(32 * mebibyte)
    await send(via, 'POST', `/v2/b/blobs/uploads/?digest=${digestOf(bytes)}`, bytes)
    const path = `/v2/b/blobs/${digestOf(bytes)}`
    const left = via.request({ ':path': path })
    left.on('error', () => {})
    await once(left, 'data')
    left.close(constants.NGHTTP2_CANCEL)
    expect((await send(via, 'GET', path)).body.equals(bytes)).toBe(true)
  })

  it('answers as HTTP/1.1 does', async () => {
    const via = await session()
    const head = await send(via, 'HEAD', '/v2/a/blobs/sha256:bad')
    expect(head).toMatchObject({ status: 400, body: Buffer.of() })
    const foreign = via.request({ ':path': '/v2/', ':authority': 'registry.example' })
    expect((await answerTo(foreign)).status).toBe(421)
    const strange = await send(via, 'FROB', '/v2/')
    expect(strange.status).toBeGreaterThanOrEqual(400)
    expect(strange.status).toBeLessThan(500)
    expect(JSON.parse(strange.body.toString())).toMatchObject({ errors: [{}] })
    const connected = via.request({ ':method': 'CONNECT', ':authority': 'a:1' })
    const refused = await answerTo(connected)
    expect(refused.status).toBe(405)
    expect(JSON.parse(refused.body.toString())).toMatchObject({ errors: [{ code: 'UNSUPPORTED' }] })
  })
})
