import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startMisbehavingServer, type MisbehavingServer } from '../fixtures/misbehaving.ts'
import { startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { createImportsApi } from './imports-api.ts'

const owned = new AsyncDisposableStack()
let server: RunningServer
let source: MisbehavingServer

beforeAll(async () => {
  const { path: data } = owned.use(await createTempFolder())
  server = owned.use(await startDvcr({ data }))
  source = owned.use(await startMisbehavingServer(bootSectorDisk({ size: 1024 * 1024 })))
})
afterAll(() => owned.disposeAsync())

describe('/v1/openapi.json', () => {
  const methods = ['get', 'post', 'put', 'delete'] as const
  const operationSchema = z.strictObject({
    summary: z.string().min(1),
    parameters: z
      .array(
        z.strictObject({
          name: z.string(),
          in: z.enum(['path', 'query', 'header']),
          required: z.boolean(),
          description: z.string().min(1),
          schema: z.looseObject({ type: z.string() }),
        }),
      )
      .default([]),
    requestBody: z.looseObject({ content: z.record(z.string(), z.unknown()) }).optional(),
    responses: z.record(
      z.string().regex(/^(?:[1-5]\d\d|default)$/),
      z.looseObject({ description: z.string() }),
    ),
  })
  const documentSchema = z.strictObject({
    openapi: z.string().regex(/^3\.1\.\d$/),
    info: z.strictObject({ title: z.string(), version: z.string() }),
    paths: z.record(
      z.string().startsWith('/v1/'),
      z.partialRecord(z.enum(methods), operationSchema),
    ),
    components: z.strictObject({ schemas: z.record(z.string(), z.looseObject({})) }),
  })
  const readDocument = async () => {
    const text = await (await fetch(`${server.url}/v1/openapi.json`)).text()
    return { text, document: documentSchema.parse(JSON.parse(text)) }
  }

  it('has the form of OpenAPI 3.1, and every reference leads somewhere', async () => {
    const { text, document } = await readDocument()
    const names = [...text.matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)].map(([, n]) => n)
    expect(names.length).toBeGreaterThan(5)
    expect(text.match(/"\$ref"/g)).toHaveLength(names.length)
    for (const name of names) expect(Object.keys(document.components.schemas)).toContain(name)
  })

  it('declares the parameters of its paths and an answer to every failure', async () => {
    const { document } = await readDocument()
    for (const [path, operations] of Object.entries(document.paths)) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
      for (const { parameters, responses } of Object.values(operations)) {
        const declared = parameters.filter(({ in: where }) => where === 'path')
        expect(declared.map(({ name }) => name)).toEqual(inPath)
        expect(declared.every(({ required }) => required)).toBe(true)
        expect(Object.keys(responses)).toContain('default')
      }
    }
  })

  it('lists only what the server answers', async () => {
    const { document } = await readDocument()
    for (const [path, operations] of Object.entries(document.paths)) {
      for (const method of Object.keys(operations)) {
        const url = server.url + path.replaceAll(/\{\w+\}/g, 'none')
        const answer = await (await fetch(url, { method })).text()
        expect(answer).not.toContain('nothing at')
      }
    }
  })
})

describe('/metrics', () => {
  it('count what was imported, by state and code', async () => {
    const imports = createImportsApi(server.url)
    await imports.run({ source: source.url('good'), name: 'counted' })
    await imports.run({ source: source.url('not-found'), name: 'counted', tag: 'bad' })
    const response = await fetch(`${server.url}/metrics`)
    expect(response.headers.get('content-type')).toContain('text/plain')
    const lines = (await response.text()).split('\n')
    expect(lines).toContain('dvcr_imports_total{state="succeeded",code=""} 1')
    expect(lines).toContain('dvcr_imports_total{state="failed",code="SOURCE_NOT_FOUND"} 1')
    for (const state of ['queued', 'running', 'paused']) {
      expect(lines).toContain(`dvcr_imports_active{state="${state}"} 0`)
    }
    expect(lines).toContain('dvcr_import_duration_seconds_count{state="succeeded"} 1')
    expect(lines).toContain('dvcr_import_source_bytes_total 1048576')
    expect(lines).toContainEqual(expect.stringMatching(/^process_resident_memory_bytes \d+/))
  })

  it('name requests by route, never by what is asked for', async () => {
    await fetch(`${server.url}/v1/image/secret-name%3A1`)
    await fetch(`${server.url}/v2/secret-name/tags/list`)
    const text = await (await fetch(`${server.url}/metrics`)).text()
    expect(text).toMatch(
      /^dvcr_http_requests_total\{route="\/v1\/image\/:image",method="GET",status="4xx"\} \d+$/m,
    )
    expect(text).not.toContain('secret-name')
    const metrics = [...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name)
    expect(new Set(metrics).size).toBe(metrics.length)
  })
})

it('/healthz and /readyz answer while the server serves', async () => {
  for (const path of ['/healthz', '/readyz']) {
    const response = await fetch(server.url + path)
    expect(response.status).toBe(200)
    expect(await response.json()).toHaveProperty('status')
  }
})
