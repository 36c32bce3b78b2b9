import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from '@prometheus-io/client'

/** What the server counts. Labels are few and bounded: never a repository, digest or URL. */
export interface Metrics {
  /** For other parts to add theirs. */
  readonly registry: Registry
  request(facts: {
    readonly route: string
    readonly method: string
    readonly status: number
    readonly seconds: number
  }): void
  error(code: string): void
  received(bytes: number): void
  sent(bytes: number): void
  /** Asked when the metrics are read. */
  observeUploads(count: () => number): void
}

/** From a manifest read from the cache to an upload of 100 GB. */
const durationBuckets = [0.001, 0.005, 0.025, 0.1, 0.5, 2, 10, 60, 300, 1800]

export function createMetrics(): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const requests = new Counter({
    name: 'dvcr_http_requests_total',
    help: 'Requests answered, by endpoint, method and class of status.',
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
  const errors = new Counter({
    name: 'dvcr_http_errors_total',
    help: 'Requests that failed, by error code.',
    labelNames: ['code'],
    registers,
  })
  const blobBytes = new Counter({
    name: 'dvcr_blob_bytes_total',
    help: 'Bytes of blobs that clients sent and were sent.',
    labelNames: ['direction'],
    registers,
  })
  let countUploads = (): number => 0
  const uploads: Gauge = new Gauge({
    name: 'dvcr_uploads_open',
    help: 'Uploads of clients that are open in this process.',
    registers,
    collect: (): void => uploads.set(countUploads()),
  })
  return {
    registry,
    request({ route, method, status, seconds }) {
      requests.inc({ route, method, status: `${Math.floor(status / 100)}xx` })
      durations.observe({ route, method }, seconds)
    },
    error: (code) => errors.inc({ code }),
    received: (bytes) => blobBytes.inc({ direction: 'in' }, bytes),
    sent: (bytes) => blobBytes.inc({ direction: 'out' }, bytes),
    observeUploads(count) {
      countUploads = count
    },
  }
}
