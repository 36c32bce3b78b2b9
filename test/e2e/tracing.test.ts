import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { json } from 'node:stream/consumers'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { listenOnLoopback } from '../fixtures/ports.ts'
import { startDvcr } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { jsonLines } from './json-lines.ts'

const attribute = z.looseObject({
  key: z.string(),
  value: z.looseObject({ stringValue: z.string().optional(), intValue: z.number().optional() }),
})
const spanSchema = z.looseObject({
  traceId: z.string(),
  parentSpanId: z.string().optional(),
  name: z.string(),
  kind: z.number(),
  startTimeUnixNano: z.string(),
  endTimeUnixNano: z.string(),
  attributes: z.array(attribute),
})
/** @see opentelemetry-proto, ExportTraceServiceRequest */
const exportSchema = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.looseObject({ attributes: z.array(attribute) }),
      scopeSpans: z.array(z.object({ spans: z.array(spanSchema) })),
    }),
  ),
})
type Export = z.output<typeof exportSchema>

/** A collector that keeps what it is sent. */
async function startCollector() {
  const exports: Export[] = []
  const receive = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    exports.push(exportSchema.parse(await json(request)))
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  }
  const server = createServer((request, response) => void receive(request, response))
  const endpoint = `http://127.0.0.1:${await listenOnLoopback(server)}`
  const resources = () => exports.flatMap(({ resourceSpans }) => resourceSpans)
  return {
    endpoint,
    resources,
    spans: () => resources().flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}

const valueOf = (attributes: readonly z.output<typeof attribute>[], name: string) => {
  const { value } = attributes.find(({ key }) => key === name) ?? {}
  return value?.stringValue ?? value?.intValue
}

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const spanId = '00f067aa0ba902b7'

it('a collector gets one span per request, below the span of the caller', async () => {
  await using collector = await startCollector()
  await using folder = await createTempFolder()
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, OTEL_SERVICE_NAME: 'images' }
  await using server = await startDvcr({ data: folder.path, env })
  const headers = { traceparent: `00-${traceId}-${spanId}-01`, 'x-request-id': 'traced-1' }
  await fetch(`${server.url}/v2/some/name/tags/list?token=secret`, { headers })
  await fetch(`${server.url}/v2/`, { headers: { traceparent: 'garbage' } })
  // What is not sent yet is sent when the server stops.
  expect(await server.stop()).toBe(0)
  const spans = collector.spans()
  const traced = spans.find((span) => span.traceId === traceId)
  expect(traced).toMatchObject({ parentSpanId: spanId, name: 'GET /v2/ tags', kind: 2 })
  const attributes = traced?.attributes ?? []
  expect(valueOf(attributes, 'http.response.status_code')).toBe(404)
  expect(valueOf(attributes, 'url.path')).toBe('/v2/some/name/tags/list')
  expect(valueOf(attributes, 'dvcr.request_id')).toBe('traced-1')
  const took = BigInt(traced?.endTimeUnixNano ?? 0) - BigInt(traced?.startTimeUnixNano ?? 0)
  expect(took).toBeGreaterThan(0n)
  expect(took).toBeLessThan(10_000_000_000n)
  const ping = spans.find(({ name }) => name === 'GET /v2/ ping')
  expect(ping).toBeDefined()
  expect(ping?.parentSpanId ?? '').toBe('')
  const [resource] = collector.resources()
  expect(valueOf(resource?.resource.attributes ?? [], 'service.name')).toBe('images')
  expect(JSON.stringify(spans)).not.toContain('secret')
})

it('a caller that does not sample its trace gets no span', async () => {
  await using collector = await startCollector()
  await using folder = await createTempFolder()
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint }
  await using server = await startDvcr({ data: folder.path, env })
  await fetch(`${server.url}/v2/`, { headers: { traceparent: `00-${traceId}-${spanId}-00` } })
  await server.stop()
  expect(collector.spans().filter((span) => span.traceId === traceId)).toEqual([])
  expect(collector.spans().length).toBeGreaterThan(0)
})

it('a collector that is not there does not hold the server up', async () => {
  await using folder = await createTempFolder()
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }
  await using server = await startDvcr({ data: folder.path, env })
  expect((await fetch(`${server.url}/v2/`)).status).toBe(200)
  expect(await server.stop()).toBe(0)
  expect(jsonLines(server.output())).toContainEqual(
    expect.objectContaining({ level: 40, msg: expect.stringContaining('spans are lost') }),
  )
})
