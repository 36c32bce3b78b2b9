import { createHash, type Hash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { chunkBytes, type HashReply, type HashRequest } from './hash-pool.ts'

interface Stream {
  readonly fd: number | undefined
  readonly hash: Hash
  readonly wantsChunks: boolean
  readonly chunkDigests: Buffer[]
  chunk: Hash
  inChunk: number
  position: number
  end: number
  finishing: boolean
}

const streams = new Map<number, Stream>()
const buffer = Buffer.allocUnsafeSlow(1024 * 1024)
let scheduled = false

const reply = (message: HashReply): void => parentPort?.postMessage(message)

function update(stream: Stream, bytes: Uint8Array): void {
  stream.hash.update(bytes)
  if (!stream.wantsChunks) return
  let rest = bytes
  while (rest.length > 0) {
    const part = rest.subarray(0, chunkBytes - stream.inChunk)
    stream.chunk.update(part)
    stream.inChunk += part.length
    rest = rest.subarray(part.length)
    if (stream.inChunk === chunkBytes) endChunk(stream)
  }
}

function endChunk(stream: Stream): void {
  stream.chunkDigests.push(stream.chunk.digest())
  stream.chunk = createHash('sha256')
  stream.inChunk = 0
}

function close(id: number): void {
  const stream = streams.get(id)
  if (stream?.fd !== undefined) closeSync(stream.fd)
  streams.delete(id)
}

/** One slice of one stream, so that streams sharing the thread advance together. */
function step(id: number, stream: Stream): void {
  if (stream.fd !== undefined && stream.position < stream.end) {
    const wanted = Math.min(buffer.length, stream.end - stream.position)
    const got = readSync(stream.fd, buffer, 0, wanted, stream.position)
    if (got === 0) throw new Error(`the file ends at ${stream.position}, before ${stream.end}`)
    update(stream, buffer.subarray(0, got))
    stream.position += got
  } else if (stream.finishing) {
    if (stream.wantsChunks && stream.inChunk > 0) endChunk(stream)
    const chunkDigests = new Uint8Array(Buffer.concat(stream.chunkDigests))
    close(id)
    reply({ type: 'finished', id, result: { hex: stream.hash.digest('hex'), chunkDigests } })
  }
}

function run(): void {
  scheduled = false
  for (const [id, stream] of streams) attempt(id, () => step(id, stream))
  for (const stream of streams.values()) {
    if (stream.position < stream.end || stream.finishing) return schedule()
  }
}

function schedule(): void {
  if (scheduled) return
  scheduled = true
  setImmediate(run)
}

function attempt(id: number, action: () => void): void {
  try {
    action()
  } catch (error) {
    close(id)
    reply({ type: 'failed', id, error })
  }
}

function open(request: HashRequest & { type: 'open' }): void {
  streams.set(request.id, {
    fd: request.path === undefined ? undefined : openSync(request.path, 'r'),
    hash: createHash(request.options.algorithm ?? 'sha256'),
    wantsChunks: request.options.chunkDigests ?? false,
    chunkDigests: [],
    chunk: createHash('sha256'),
    inChunk: 0,
    position: request.start,
    end: request.start,
    finishing: false,
  })
}

parentPort?.on('message', (request: HashRequest) => {
  if (request.type === 'open') return attempt(request.id, () => open(request))
  const stream = streams.get(request.id)
  if (!stream) return
  switch (request.type) {
    case 'advance':
      stream.end = Math.max(stream.end, request.end)
      break
    case 'write':
      update(stream, request.bytes)
      reply({ type: 'wrote', id: request.id })
      break
    case 'finish':
      stream.end = Math.max(stream.end, request.end)
      stream.finishing = true
      break
    case 'close':
      return close(request.id)
  }
  schedule()
})
