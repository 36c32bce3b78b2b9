import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { Transform } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { listenOnLoopback } from '../fixtures/ports.ts'

/** A web server with one file that counts what it sends. */
export interface CountingSource extends AsyncDisposable {
  readonly url: string
  /** Bytes of the file that went to clients. */
  readonly sentBytes: number
}

/** Sends the file at `path` at about `bytesPerSecond`; without `ranges` always all of it. */
export async function startCountingSource(
  path: string,
  { ranges, bytesPerSecond }: { readonly ranges: boolean; readonly bytesPerSecond: number },
): Promise<CountingSource> {
  const { size } = await stat(path)
  let sentBytes = 0

  const counted = (): Transform =>
    new Transform({
      async transform(chunk: Buffer, _encoding, done) {
        await sleep((chunk.length * 1000) / bytesPerSecond)
        sentBytes += chunk.length
        done(null, chunk)
      },
    })

  const server = createServer((request, response) => {
    const asked = ranges ? /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') : null
    const start = Number(asked?.[1] ?? 0)
    const end = Number(asked?.[2] || size - 1)
    response.writeHead(asked ? 206 : 200, {
      etag: '"file"',
      'content-length': end - start + 1,
      ...(ranges ? { 'accept-ranges': 'bytes' } : {}),
      ...(asked ? { 'content-range': `bytes ${start}-${end}/${size}` } : {}),
    })
    const file = createReadStream(path, { start, end, highWaterMark: 1024 * 1024 })
    response.on('close', () => file.destroy())
    file.pipe(counted()).pipe(response)
  })
  const port = await listenOnLoopback(server)
  return {
    url: `http://127.0.0.1:${port}/${path.split('/').at(-1)}`,
    get sentBytes() {
      return sentBytes
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}
