import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { createBlobHash, type BlobHash } from './blob-hash.ts'
import { hashReportBytes, type HashReply, type HashRequest } from './hash-pool.ts'

interface Stream {
  readonly fd: number | undefined
  readonly hash: BlobHash
  /** Positions whose state was asked for, ascending. */
  readonly checkpoints: number[]
  position: number
  reported: number
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
    const stop = Math.min(stream.end, stream.checkpoints[0] ?? Infinity)
    const wanted = Math.min(buffer.length, stop - stream.position)
    const got = readSync(stream.fd, buffer, 0, wanted, stream.position)
    if (got === 0) throw new Error(`the file ends at ${stream.position}, before ${stream.end}`)
    stream.hash.update(buffer.subarray(0, got))
    stream.position += got
    report(id, stream)
  } else if (stream.finishing) {
    close(id)
    reply({ type: 'finished', id, result: stream.hash.finish() })
  }
}

function report(id: number, stream: Stream): void {
  answerCheckpoints(id, stream)
  if (stream.position < stream.end && stream.position - stream.reported < hashReportBytes) return
  stream.reported = stream.position
  reply({ type: 'hashed', id, position: stream.position })
}

function answerCheckpoints(id: number, { checkpoints, position, hash }: Stream): void {
  for (let end = checkpoints[0]; end !== undefined && end <= position; end = checkpoints[0]) {
    checkpoints.shift()
    reply({ type: 'state', id, end, state: end === position ? hash.save() : undefined })
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

function open({ id, path, start, options, from }: HashRequest & { type: 'open' }): void {
  const resumed = from && createBlobHash(options, from.state)
  const hash = resumed ?? createBlobHash(options)
  if (!hash) throw new Error(`no hash ${options.algorithm}`)
  const position = resumed && from ? from.end : start
  streams.set(id, {
    fd: path === undefined ? undefined : openSync(path, 'r'),
    hash,
    checkpoints: [],
    position,
    reported: position,
    end: position,
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
    case 'checkpoint':
      stream.checkpoints.push(request.end)
      stream.checkpoints.sort((a, b) => a - b)
      answerCheckpoints(request.id, stream)
      break
    case 'write':
      stream.hash.update(request.bytes)
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
