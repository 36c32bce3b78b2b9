import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { listenOnLoopback } from '../fixtures/ports.ts'
import { createSeededRandom } from './seeded-random.ts'

const mib = 1024 * 1024

/** What a request asks for, and what there is. */
export interface Asked {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly content: Buffer
  readonly start: number
  /** The byte behind the last one. */
  readonly end: number
  readonly isRange: boolean
  /** 1 for the first request of the server. */
  readonly count: number
}

/** What is not as it should be in an answer. */
export interface Flaws {
  readonly status?: number
  /** Instead of, or (`undefined`) without those that it should have. */
  readonly headers?: Readonly<Record<string, string | number | undefined>>
  /** Instead of the bytes that were asked for. */
  readonly body?: Uint8Array
  /** Bytes after which the connection breaks. */
  readonly breakAt?: number
  /** Bytes after which nothing comes any more. */
  readonly stallAt?: number
  readonly bytesPerSecond?: number
}

export type WrongAnswer = (asked: Asked) => void | Promise<void>

/** How the first answer of a server ends, so that there are further ones. */
export type Beginning = 'breaks' | 'drips' | 'stalls'

const beginnings: Readonly<Record<Beginning, Flaws>> = {
  // One connection.
  breaks: { breakAt: 7 * mib },
  // Slower than it is read: several connections.
  drips: { bytesPerSecond: 2 * mib },
  // For a restart in between.
  stalls: { stallAt: 14 * mib },
}

export const etag = '"one"'

/** The right answer, but for `flaws`. */
export async function answer(
  { response, content, start, end, isRange }: Asked,
  { status, headers = {}, body = content.subarray(start, end), ...flaws }: Flaws = {},
): Promise<void> {
  const { breakAt = Infinity, stallAt = Infinity, bytesPerSecond = Infinity } = flaws
  const all = {
    etag,
    'accept-ranges': 'bytes',
    'content-length': body.length,
    'content-range': isRange ? `bytes ${start}-${end - 1}/${content.length}` : undefined,
    ...headers,
  }
  const present = Object.entries(all).filter(([, value]) => value !== undefined)
  response.writeHead(status ?? (isRange ? 206 : 200), Object.fromEntries(present))
  const closed = new Promise((resolve) => response.once('close', resolve))
  const piece = 256 * 1024
  for (let at = 0; at < body.length && !response.destroyed; at += piece) {
    if (at >= breakAt) return void response.destroy()
    if (at >= stallAt) return
    if (!response.write(body.subarray(at, at + piece))) {
      const drained = new Promise((resolve) => response.once('drain', resolve))
      await Promise.race([drained, closed])
    }
    if (bytesPerSecond < Infinity) await sleep((piece * 1000) / bytesPerSecond)
  }
  response.end()
}

/** The answer of a server without ranges. */
export const whole = (asked: Asked): Asked => ({
  ...asked,
  start: 0,
  end: asked.content.length,
  isRange: false,
})

/** Other bytes than those of `content`, of the same length. */
export function otherContent(content: Buffer): Buffer {
  const other = Buffer.from(content)
  for (let at = mib; at < other.length; at += 4096) other[at] = (other[at] ?? 0) ^ 0xff
  return other
}

export function breaksAnywhere(seed: number): WrongAnswer {
  const random = createSeededRandom(seed)
  return (asked) => answer(asked, { breakAt: 1 + random() * 5 * mib })
}

/** What gzip makes of all of it, as some servers send whatever was asked for. */
export function gzipped(asked: Asked): Promise<void> {
  const body = gzipSync(asked.content, { level: 0 })
  const headers = { 'content-encoding': 'gzip' }
  return answer(whole(asked), { headers, body })
}

export interface WrongServer extends AsyncDisposable {
  readonly url: string
  /** The `Range` of every request. */
  readonly ranges: readonly (string | undefined)[]
  /** From now on every answer is right. */
  heal(): void
}

/**
 * A server whose first answer begins well and ends as `beginning` says; what follows is `answers`.
 * `first` is what is wrong with the first one already; `from` the start, all are
 * `answers`.
 */
export async function startWrongServer(
  content: Buffer,
  beginning: Beginning,
  wrong: { readonly first?: Flaws; readonly from?: 'start'; readonly answers: WrongAnswer },
): Promise<WrongServer> {
  const ranges: (string | undefined)[] = []
  let isWell = false
  const server = createServer((request, response) => {
    if (request.method !== 'GET') return void response.writeHead(403).end()
    const { range } = request.headers
    ranges.push(range)
    const found = /^bytes=(\d+)-(\d*)$/.exec(range ?? '')
    const asked = {
      request,
      response,
      content,
      start: Number(found?.[1] ?? 0),
      end: found?.[2] ? Number(found[2]) + 1 : content.length,
      isRange: found !== null,
      count: ranges.length,
    }
    response.on('error', () => {})
    if (isWell) return void answer(asked)
    const isFirst = asked.count === 1 && wrong.from !== 'start'
    void (isFirst
      ? answer(asked, { ...beginnings[beginning], ...wrong.first })
      : wrong.answers(asked))
  })
  const origin = `http://127.0.0.1:${await listenOnLoopback(server)}`
  return {
    url: `${origin}/disk.raw`,
    ranges,
    heal: () => void (isWell = true),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}
