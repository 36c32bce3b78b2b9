import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client'
import type { RequestObserver } from './request-observer.ts'

/** What is counted of requests and connections. Labels are few and bounded. */
export interface HttpMetrics {
  readonly observe: RequestObserver
  /** A connection more than allowed. */
  refusedConnection(): void
  /** Asked when the metrics are read. */
  watchConnections(count: () => number): void
}

/** From a manifest read from the cache to an upload of 100 GB. */
const durationBuckets = [0.001, 0.005, 0.025, 0.1, 0.5, 2, 10, 60, 300, 1800]

export function createHttpMetrics(registry: Registry): HttpMetrics {
  const registers = [registry]
  const requests = new Counter({
    name: 'dvcr_http_requests_total',
    help: 'Requests, by endpoint, method and class of status.',
    labelNames: ['route', 'method', 'status'],
    registers,
  })
  const durations = new Histogram({
    name: 'dvcr_http_request_duration_seconds',
    help: 'Time from the request to the end of its answer.',
    labelNames: ['route', 'method'],
    buckets: durationBuckets,
    registers,
  })
  const bytes = new Counter({
    name: 'dvcr_http_bytes_total',
    help: 'Bytes of bodies, of requests (in) and answers (out).',
    labelNames: ['direction'],
    registers,
  })
  const broken = new Counter({
    name: 'dvcr_http_requests_broken_total',
    help: 'Requests that ended before their answer did: the client went away, or was too slow.',
    labelNames: ['reason'],
    registers,
  })
  const refused = new Counter({
    name: 'dvcr_http_connections_refused_total',
    help: 'Connections closed at once because there were too many.',
    registers,
  })
  let countConnections = (): number => 0
  const connections: Gauge = new Gauge({
    name: 'dvcr_http_connections',
    help: 'Connections that are open.',
    registers,
    collect: (): void => connections.set(countConnections()),
  })
  return {
    observe({ route, method, status, seconds, bytesIn, bytesOut, isAnswered, isTooSlow }) {
      requests.inc({ route, method, status: `${Math.floor(status / 100)}xx` })
      durations.observe({ route, method }, seconds)
      bytes.inc({ direction: 'in' }, bytesIn)
      bytes.inc({ direction: 'out' }, bytesOut)
      if (!isAnswered) broken.inc({ reason: isTooSlow ? 'slow' : 'gone' })
    },
    refusedConnection: () => refused.inc(),
    watchConnections(count) {
      countConnections = count
    },
  }
}
