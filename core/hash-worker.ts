import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { createBlobHash, type BlobHash } from './blob-hash.ts'
import type { HashOptions, HashReply, HashRequest } from './hash-pool.ts'

interface Stream {
  readonly fd: number | undefined
  readonly hash: BlobHash
  position: number
  end: number
  finishing: boolean
}

const streams = new Map<number, Stream>()
const buffer = Buffer.allocUnsafeSlow(1024 * 1024)
let scheduled = false

const reply = (message: HashReply): void => parentPort?.postMessage(message)

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
    stream.hash.update(buffer.subarray(0, got))
    stream.position += got
  } else if (stream.finishing) {
    close(id)
    reply({ type: 'finished', id, result: stream.hash.finish() })
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
    hash: openHash(request.options),
    position: request.start,
    end: request.start,
    finishing: false,
  })
}

function openHash(options: HashOptions): BlobHash {
  const hash = createBlobHash(options, options.from)
  if (!hash) throw new Error('this platform cannot go on with a saved digest')
  return hash
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
      stream.hash.update(request.bytes)
      reply({ type: 'wrote', id: request.id })
      break
    case 'save':
      return reply({ type: 'saved', id: request.id, state: stream.hash.save() })
    case 'finish':
      stream.end = Math.max(stream.end, request.end)
      stream.finishing = true
      break
    case 'close':
      close(request.id)
      return reply({ type: 'closed', id: request.id })
  }
  schedule()
})
