import type { Context } from '@opentelemetry/api'
import type { Log } from '../../core/log.ts'
import type { RequestObserver } from './request-observer.ts'

/** Spans of requests, on their way to a collector. */
export interface Tracing extends AsyncDisposable {
  readonly observe: RequestObserver
  /** Sends what is not sent yet, for a few seconds at most. */
  [Symbol.asyncDispose](): Promise<void>
}

/** A collector that does not answer holds neither the export nor the end of the process up. */
const exportLimitMs = 3000

/**
 * OpenTelemetry, where the environment names a collector (`OTEL_EXPORTER_OTLP_ENDPOINT` or
 * `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`), else `undefined`: its packages are then not even loaded.
 * One server span per request, below the caller's where there is a `traceparent`; the standard
 * `OTEL_*` variables for service name, sampling and headers count.
 */
export async function startTracing(
  env: Readonly<Record<string, string | undefined>>,
  { version, log }: { readonly version: string; readonly log: Log },
): Promise<Tracing | undefined> {
  const endpoint = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] ?? env['OTEL_EXPORTER_OTLP_ENDPOINT']
  if (endpoint === undefined || endpoint === '' || env['OTEL_SDK_DISABLED'] === 'true') {
    return undefined
  }
  const { diag, DiagLogLevel, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } =
    await import('@opentelemetry/api')
  const { BatchSpanProcessor, NodeTracerProvider } = await import('@opentelemetry/sdk-trace-node')
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-http')
  const { resourceFromAttributes } = await import('@opentelemetry/resources')
  const warn = (why: unknown): void =>
    log.warn({ why: String(why).slice(0, 500) }, 'spans are lost on their way to the collector')
  const ignore = (): void => {}
  const logger = { error: warn, warn, info: ignore, debug: ignore, verbose: ignore }
  diag.setLogger(logger, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true })
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({
      'service.name': env['OTEL_SERVICE_NAME'] ?? 'dvcr',
      'service.version': version,
    }),
    spanProcessors: [
      new BatchSpanProcessor(new OTLPTraceExporter({ timeoutMillis: exportLimitMs })),
    ],
  })
  const tracer = provider.getTracer('dvcr', version)

  function parentOf(header: unknown): Context {
    const caller = typeof header === 'string' ? parseTraceparent(header) : undefined
    return caller ? trace.setSpanContext(ROOT_CONTEXT, { ...caller, isRemote: true }) : ROOT_CONTEXT
  }

  return {
    observe({ raw, method, path, route, status, seconds, id, identity, remote, ...rest }) {
      const endedAt = Date.now()
      const attributes = {
        'http.request.method': method,
        'http.route': route,
        'http.response.status_code': status,
        'http.request.body.size': rest.bytesIn,
        'http.response.body.size': rest.bytesOut,
        'network.protocol.version': raw.httpVersion,
        'url.path': path,
        'dvcr.request_id': id,
        ...(remote === undefined ? {} : { 'client.address': remote }),
        ...(identity === undefined ? {} : { 'enduser.id': identity }),
      }
      const startTime = endedAt - seconds * 1000
      const options = { kind: SpanKind.SERVER, startTime, attributes }
      const span = tracer.startSpan(
        `${method} ${route}`,
        options,
        parentOf(raw.headers['traceparent']),
      )
      if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
      span.end(endedAt)
    },
    async [Symbol.asyncDispose]() {
      // A collector that is not there costs spans, nothing else.
      await provider.shutdown().catch(warn)
    },
  }
}

/** @see W3C Trace Context §3.2 */
function parseTraceparent(
  header: string,
): { readonly traceId: string; readonly spanId: string; readonly traceFlags: number } | undefined {
  const [, version, traceId, spanId, flags] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(header) ?? []
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined
  const isInvalid = version === 'ff' || /^0+$/.test(traceId) || /^0+$/.test(spanId)
  return isInvalid ? undefined : { traceId, spanId, traceFlags: Number.parseInt(flags, 16) }
}
