import { fastify } from 'fastify'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { registerImageApi } from './routes.ts'
import { openApiDocument } from './openapi.ts'

const documentSchema = z.object({
  openapi: z.string(),
  paths: z.record(
    z.string(),
    z.record(z.string(), z.looseObject({ responses: z.looseObject({}) })),
  ),
})

/** Every value of a key `$ref`, at any depth. */
function references(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, inner]) =>
    key === '$ref' ? [String(inner)] : references(inner),
  )
}

function resolve(document: unknown, reference: string): unknown {
  let at: unknown = document
  for (const key of reference.replace(/^#\//, '').split('/')) {
    at = typeof at === 'object' && at !== null ? Reflect.get(at, key) : undefined
  }
  return at
}

test('every reference in the document leads somewhere in it', () => {
  const document = openApiDocument()
  const all = references(document)
  expect(all.length).toBeGreaterThan(10)
  expect(all.filter((reference) => !reference.startsWith('#/'))).toEqual([])
  expect(all.filter((reference) => resolve(document, reference) === undefined)).toEqual([])
})

test('the document survives JSON', () => {
  const document = openApiDocument()
  expect(JSON.parse(JSON.stringify(document))).toEqual(document)
})

test('every parameter in a path is described', () => {
  const { paths } = documentSchema.parse(openApiDocument())
  for (const [path, methods] of Object.entries(paths)) {
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
    for (const { parameters } of Object.values(methods)) {
      const described = z.array(z.object({ name: z.string(), in: z.string() })).catch([])
      const names = described.parse(parameters).filter((parameter) => parameter.in === 'path')
      expect(names.map(({ name }) => name)).toEqual(inPath)
    }
  }
})

test('what is described is what is served', async () => {
  const served: string[] = []
  await using app = fastify()
  app.addHook('onRoute', ({ method, path }) => {
    for (const one of [method].flat()) served.push(`${one} ${path}`)
  })
  const unused = new Proxy(Object.create(null), {})
  registerImageApi(app, {
    images: unused,
    imports: unused,
    stopping: new AbortController().signal,
    accessOf: unused,
  })
  const { paths } = documentSchema.parse(openApiDocument())
  const described = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map(
      (method) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`,
    ),
  )
  const api = served.filter(
    (route) => !route.startsWith('HEAD ') && !route.endsWith('openapi.json'),
  )
  expect(described.toSorted()).toEqual(api.toSorted())
})
