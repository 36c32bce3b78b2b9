import type { FastifyInstance } from 'fastify'
import { CodedError, toCodedError } from '../../core/errors.ts'
import type { Metrics } from '../metrics.ts'
import type { Store } from '../store.ts'

/** A successful or failed write counts for so long. */
const probeMs = 3000
const probeKey = 'v1/probe.json'

/**
 * `/healthz` answers while the process does; `/readyz` while the store can be written to and the
 * server is not stopping; `/metrics` in Prometheus' text format.
 */
export function registerHealth(
  app: FastifyInstance,
  { store, metrics }: { readonly store: Store; readonly metrics: Metrics },
): void {
  let stopping = false
  let probe: { readonly until: number; readonly written: Promise<unknown> } | undefined

  app.addHook('preClose', async () => {
    stopping = true
  })

  async function requireReady(): Promise<void> {
    if (stopping) throw new CodedError('UNAVAILABLE', 'the server is stopping')
    if (!probe || probe.until < performance.now()) {
      const bytes = Buffer.from(JSON.stringify({ pid: process.pid }))
      const written = store.objects.put(probeKey, bytes, 'always')
      written.catch(() => {})
      probe = { until: performance.now() + probeMs, written }
    }
    try {
      await probe.written
    } catch (error) {
      const { code } = toCodedError(error)
      // Anybody may ask: what names paths and buckets is for the log.
      throw new CodedError(
        code === 'UNKNOWN' ? 'UNAVAILABLE' : code,
        'the store cannot be written to; the log of the server says why',
        { cause: error },
      )
    }
  }

  app.get('/healthz', { config: { access: 'open' } }, async () => ({ status: 'ok' }))
  app.get('/readyz', { config: { access: 'open' } }, async () => {
    await requireReady()
    return { status: 'ready' }
  })
  app.get('/metrics', { config: { access: 'metrics' } }, async (_request, reply) =>
    reply
      .header('content-type', metrics.registry.contentType)
      .send(await metrics.registry.metrics()),
  )
}
