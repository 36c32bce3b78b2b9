import { createServer, request, type IncomingMessage } from 'node:http'
import { expect, test } from 'vitest'
import { collect } from '../../test/fixtures/chunks.ts'
import { listenOnLoopback } from '../../test/fixtures/ports.ts'
import { RequestBody } from './s3-body.ts'

/** Far more than sockets hold. */
const chunkBytes = 1024 * 1024
const chunkCount = 20

/** A request to a server that gets each of them by `onRequest`. */
async function openRequest(onRequest: (incoming: IncomingMessage) => void) {
  const server = createServer(onRequest)
  const port = await listenOnLoopback(server)
  const outgoing = request({ port, method: 'PUT', host: '127.0.0.1' })
  outgoing.on('error', () => {})
  return {
    outgoing,
    async [Symbol.asyncDispose]() {
      outgoing.destroy()
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}

/** Chunks of one buffer, which is filled anew for each; counts those that were asked for. */
function createChunks() {
  const state = { asked: 0, closed: false }
  async function* chunks(): AsyncGenerator<Uint8Array, void> {
    const buffer = Buffer.alloc(chunkBytes)
    try {
      for (let index = 0; index < chunkCount; index++) {
        state.asked++
        yield buffer.fill(index)
      }
    } finally {
      state.closed = true
    }
  }
  return { state, chunks: chunks() }
}

const failed: unknown[] = []
const fail = (reason: unknown): void => void failed.push(reason)

test('a chunk is asked for when the one before is taken, so one buffer is enough', async () => {
  const reading = Promise.withResolvers<Buffer>()
  const { state, chunks } = createChunks()
  const asked: number[] = []
  await using sent = await openRequest((incoming) => {
    // As long as nobody reads, only what sockets hold is asked for.
    setTimeout(() => {
      asked.push(state.asked)
      reading.resolve(collect(incoming))
    }, 200)
  })
  new RequestBody(chunks, fail).pipe(sent.outgoing)
  const got = await reading.promise
  expect(asked[0]).toBeLessThan(chunkCount)
  expect(got).toHaveLength(chunkBytes * chunkCount)
  for (let index = 0; index < chunkCount; index++) {
    const chunk = got.subarray(index * chunkBytes, (index + 1) * chunkBytes)
    expect(chunk.every((byte) => byte === index)).toBe(true)
  }
  expect([state.closed, failed]).toEqual([true, []])
})

test('destroying it before all is sent ends the request and closes the source', async () => {
  const arrived = Promise.withResolvers<IncomingMessage>()
  await using sent = await openRequest((incoming) =>
    arrived.resolve(incoming.on('error', () => {})),
  )
  const { state, chunks } = createChunks()
  const body = new RequestBody(chunks, fail)
  body.pipe(sent.outgoing)
  await arrived.promise
  body.destroy()
  await expect.poll(() => sent.outgoing.closed).toBe(true)
  await expect.poll(() => state.closed).toBe(true)
  expect(state.asked).toBeLessThan(chunkCount)
})

test('what its source throws is told', async () => {
  await using sent = await openRequest((incoming) => void incoming.resume())
  async function* broken(): AsyncGenerator<Uint8Array, void> {
    yield Buffer.alloc(10)
    throw new Error('broken')
  }
  const told = Promise.withResolvers<unknown>()
  new RequestBody(broken(), told.resolve).pipe(sent.outgoing)
  expect(await told.promise).toMatchObject({ message: 'broken' })
})
