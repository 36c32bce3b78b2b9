import { createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { array, assert, asyncProperty, nat } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { collect, noise } from '../../test/fixtures/chunks.ts'
import { listenOnLoopback } from '../../test/fixtures/ports.ts'
import { getBySocket, type GetOptions } from './s3-socket.ts'

const options: GetOptions = {
  headers: { range: 'bytes=0-9' },
  signal: new AbortController().signal,
  idleMs: 5_000,
}

/** A server that does that with every connection, once a request has come. */
async function startServer(serve: (socket: Socket, request: string) => Promise<void> | void) {
  const server: Server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', (request: Buffer) => void serve(socket, request.toString()))
  })
  const url = new URL(`http://127.0.0.1:${await listenOnLoopback(server)}/bucket/key?signed=1`)
  return { url, [Symbol.dispose]: () => void server.close() }
}

const head = (status: string, size: number): string =>
  `HTTP/1.1 ${status}\r\nETag: "x"\r\nContent-Length: ${size}\r\n\r\n`

describe('a GET by socket', () => {
  it('sends the request and reads the answer, however it is cut', async () => {
    const body = noise(3_000_000)
    const answer = Buffer.concat([Buffer.from(head('206 Partial Content', body.length)), body])
    let asked = ''
    let cuts: number[] = []
    using server = await startServer(async (socket, request) => {
      asked = request
      let at = 0
      for (const size of [...cuts, answer.length]) {
        socket.write(answer.subarray(at, at + size))
        at += size
        await sleep(1)
      }
      socket.end()
    })
    await assert(
      asyncProperty(array(nat({ max: 200 }), { maxLength: 6 }), async (sizes) => {
        cuts = sizes
        await using got = await getBySocket(server.url, options)
        expect(got.status).toBe(206)
        expect(got.header('etag')).toBe('"x"')
        expect((await collect(got.body)).equals(body)).toBe(true)
      }),
      { numRuns: 15 },
    )
    expect(asked).toMatch(/^GET \/bucket\/key\?signed=1 HTTP\/1\.1\r\nhost: 127\.0\.0\.1:\d+\r\n/)
    expect(asked).toContain('range: bytes=0-9\r\n')
  })

  it('ends where the connection does', async () => {
    using server = await startServer((socket) => {
      socket.end(`${head('206 Partial Content', 100)}only this`)
    })
    await using got = await getBySocket(server.url, options)
    expect((await collect(got.body)).toString()).toBe('only this')
  })

  it('fails on silence, on what is not HTTP, and on an end before an answer', async () => {
    const cases = [
      { serve: () => {}, why: 'no byte for 50 ms' },
      { serve: (socket: Socket) => void socket.end('220 mail ready\r\n\r\n'), why: 'not HTTP' },
      { serve: (socket: Socket) => void socket.end(), why: 'closed before an answer' },
      { serve: (socket: Socket) => void socket.end('x'.repeat(100_000)), why: 'has no end' },
    ]
    for (const { serve, why } of cases) {
      using server = await startServer(serve)
      await expect(getBySocket(server.url, { ...options, idleMs: 50 })).rejects.toThrow(why)
    }
  })

  it('stops when it is told to', async () => {
    using server = await startServer((socket) => void socket.write(head('200 OK', 100)))
    const stop = new AbortController()
    await using got = await getBySocket(server.url, { ...options, signal: stop.signal })
    const reading = collect(got.body)
    stop.abort(new Error('enough'))
    await expect(reading).rejects.toThrow('enough')
    const late = getBySocket(server.url, { ...options, signal: stop.signal })
    await expect(late).rejects.toThrow('enough')
  })
})
