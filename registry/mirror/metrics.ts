import { Counter, type Registry } from '@prometheus-io/client'

/** What clients of a mirror ask for. */
export type Kind = 'manifest' | 'blob' | 'listing'

/**
 * `hit`: held here. `miss`: taken from the upstream. `stale`: held here, and the upstream could not
 * be asked whether it is still so. `passed`: taken from the upstream and not kept.
 */
export type Outcome = 'hit' | 'miss' | 'stale' | 'passed'

/** What one mirror counts. */
export interface MirrorMetrics {
  request(kind: Kind, outcome: Outcome): void
  /** Bytes of blobs that the upstream sent. */
  received(bytes: number): void
  /** A request to the upstream that failed, by error code; 404 is an answer. */
  upstreamError(code: string): void
}

/** Adds the counters to `registry`; the label `mirror` is the prefix from the settings. */
export function createMirrorMetrics(registry: Registry): (prefix: string) => MirrorMetrics {
  const registers = [registry]
  const requests = new Counter({
    name: 'dvcr_mirror_requests_total',
    help: 'What clients asked mirrors for, and where the answer was taken from.',
    labelNames: ['mirror', 'kind', 'outcome'],
    registers,
  })
  const received = new Counter({
    name: 'dvcr_mirror_upstream_bytes_total',
    help: 'Bytes of blobs that upstreams sent to mirrors.',
    labelNames: ['mirror'],
    registers,
  })
  const errors = new Counter({
    name: 'dvcr_mirror_upstream_errors_total',
    help: 'Requests to upstreams that failed, by error code.',
    labelNames: ['mirror', 'code'],
    registers,
  })
  return (mirror) => ({
    request: (kind, outcome) => requests.inc({ mirror, kind, outcome }),
    received: (bytes) => received.inc({ mirror }, bytes),
    upstreamError: (code) => errors.inc({ mirror, code }),
  })
}
