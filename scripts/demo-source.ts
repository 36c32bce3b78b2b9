import { createServer } from 'node:http'
import { gzipSync } from 'node:zlib'
import { bootSectorDisk } from '../test/fixtures/boot-sector.ts'
import { listenOnLoopback } from '../test/fixtures/ports.ts'

const diskSize = 64 * 1024 * 1024

/**
 * The project's own bootable disk, gzip-compressed, at `url` on a free loopback port until
 * disposal: what the quickstart imports where the user names nothing.
 */
export async function serveDemoDisk(): Promise<AsyncDisposable & { readonly url: string }> {
  const body = gzipSync(bootSectorDisk({ size: diskSize }), { level: 1 })
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/gzip', 'content-length': body.length })
    response.end(body)
  })
  const port = await listenOnLoopback(server)
  return {
    url: `http://127.0.0.1:${port}/demo.raw.gz`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}
