import { collectDefaultMetrics, Counter, Gauge, Registry } from '@prometheus-io/client'

/** What the server counts. Labels are few and bounded: never a repository, digest or URL. */
export interface Metrics {
  /** For other parts to add theirs. */
  readonly registry: Registry
  error(code: string): void
  received(bytes: number): void
  sent(bytes: number): void
  /** Asked when the metrics are read. */
  observeUploads(count: () => number): void
  /** When the server's certificate ends, as Unix time in seconds; asked when the metrics are read. */
  watchCertificate(expiresAtS: () => number): void
}

export function createMetrics(): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
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
    error: (code) => errors.inc({ code }),
    received: (bytes) => blobBytes.inc({ direction: 'in' }, bytes),
    sent: (bytes) => blobBytes.inc({ direction: 'out' }, bytes),
    observeUploads(count) {
      countUploads = count
    },
    watchCertificate(expiresAtS) {
      const expiry: Gauge = new Gauge({
        name: 'dvcr_tls_certificate_expiry_timestamp_seconds',
        help: 'When the certificate of the server expires, as Unix time.',
        registers,
        collect: (): void => expiry.set(expiresAtS()),
      })
    },
  }
}
