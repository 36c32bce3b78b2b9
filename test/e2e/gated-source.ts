import { createServer, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { listenOnLoopback } from '../fixtures/ports.ts'

/** A web server that holds every download at its half until it is told to go on. */
export interface GatedSource extends AsyncDisposable {
  readonly url: string
  /** Waits until so many downloads are held. */
  held(count?: number): Promise<void>
  /** Waits until no download is held: the clients have gone. */
  left(): Promise<void>
  /** Gives everyone the rest; later downloads are not held. */
  open(): void
  /** Breaks the connections that are held. */
  cut(): void
}

export async function startGatedSource(body: Uint8Array): Promise<GatedSource> {
  const half = body.length >> 1
  const waiting = new Set<ServerResponse>()
  let isOpen = false
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-length': body.length })
    if (isOpen) return void response.end(body)
    response.once('close', () => waiting.delete(response))
    response.write(body.subarray(0, half), () => waiting.add(response))
  })
  const origin = `http://127.0.0.1:${await listenOnLoopback(server)}`
  return {
    url: `${origin}/disk.raw`,
    async held(count = 1) {
      while (waiting.size < count) await sleep(10)
    },
    async left() {
      while (waiting.size > 0) await sleep(10)
    },
    open() {
      isOpen = true
      for (const response of waiting) response.end(body.subarray(half))
    },
    cut() {
      for (const response of waiting) response.destroy()
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}
