import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Registry } from '@prometheus-io/client'
import { CodedError } from '../core/errors.ts'
import { formatUrl, type ListenAddress } from './address.ts'

/** A few scrapers; whoever opens more is not one. */
const mostConnections = 32

/**
 * Serves `/metrics` in Prometheus' text format and `/healthz` until disposed. Throws SETTING_INVALID
 * where the address cannot be listened on.
 */
export async function openImporterEndpoint(
  address: ListenAddress,
  metrics: Registry,
): Promise<AsyncDisposable> {
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pathname = URL.parse(request.url ?? '', 'http://pod')?.pathname
    const isRead = request.method === 'GET' || request.method === 'HEAD'
    if (isRead && pathname === '/healthz') {
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"status":"ok"}')
    } else if (isRead && pathname === '/metrics') {
      const text = await metrics.metrics()
      response.writeHead(200, { 'content-type': metrics.contentType }).end(text)
    } else {
      response.writeHead(404).end()
    }
  }

  const server = createServer((request, response) => {
    // No scrape is worth an import.
    answer(request, response).catch(() => response.destroy())
  })
  server.maxConnections = mostConnections
  server.listen(address)
  await once(server, 'listening').catch((error: unknown) => {
    const why = error instanceof Error ? error.message : String(error)
    throw new CodedError(
      'SETTING_INVALID',
      `DVCR_IMPORTER_LISTEN: cannot listen on ${formatUrl(address)}: ${why}`,
      { cause: error },
    )
  })
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}
