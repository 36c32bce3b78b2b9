import { randomUUID } from 'node:crypto'
import type { Answer, Send } from './client.ts'

/** Of the OCI distribution spec: release 1.1, or that and what its main branch has added since. */
export type Level = '1.1' | 'main'

/** What one check may use: a repository of its own. */
export interface Trial {
  readonly name: string
  readonly send: Send
}

/** One thing that the spec says of an endpoint. Leaves nothing that another check could meet. */
export interface Check {
  /** As the spec numbers them, `end-2`; one of `endpoints`. */
  readonly endpoint: Endpoint
  /** The first level that asks for it. */
  readonly level: Level
  readonly title: string
  /** Rejects with `Unsupported` where the registry leaves out what it may, else with the failure. */
  run(trial: Trial): Promise<void>
}

/** Every endpoint of the spec's table. */
export const endpoints = {
  'end-1': 'GET /v2/',
  'end-2': 'GET, HEAD /v2/<name>/blobs/<digest>',
  'end-3': 'GET, HEAD /v2/<name>/manifests/<tag or digest>',
  'end-4a': 'POST /v2/<name>/blobs/uploads/',
  'end-4b': 'POST /v2/<name>/blobs/uploads/?digest=<digest>',
  'end-4c': 'POST /v2/<name>/blobs/uploads/?digest-algorithm=<algorithm>',
  'end-5': 'PATCH <location>',
  'end-6': 'PUT <location>?digest=<digest>',
  'end-7a': 'PUT /v2/<name>/manifests/<tag or digest>',
  'end-7b': 'PUT /v2/<name>/manifests/<digest>?tag=<tag>&tag=<tag>',
  'end-8a': 'GET /v2/<name>/tags/list',
  'end-8b': 'GET /v2/<name>/tags/list?n=<number>&last=<tag>',
  'end-9': 'DELETE /v2/<name>/manifests/<tag or digest>',
  'end-10': 'DELETE /v2/<name>/blobs/<digest>',
  'end-11': 'POST /v2/<name>/blobs/uploads/?mount=<digest>&from=<name>',
  'end-12a': 'GET /v2/<name>/referrers/<digest>',
  'end-12b': 'GET /v2/<name>/referrers/<digest>?artifactType=<type>',
  'end-13': 'GET <location>',
  'end-14': 'DELETE <location>',
  extensions: 'GET /v2/_catalog, /v2/_oci/ext/discover, ?ns=<host>',
  errors: 'names, error codes, error bodies',
} as const
export type Endpoint = keyof typeof endpoints

/** The registry does not have what the spec leaves to it. */
export class Unsupported extends Error {
  override readonly name = 'Unsupported'
}

export type Outcome =
  | { readonly kind: 'passed' }
  | { readonly kind: 'failed' | 'unsupported'; readonly reason: string }

/** Runs one check in a repository of its own; never rejects. */
export async function runCheck({ run }: Check, send: Send): Promise<Outcome> {
  const name = `conformance/${randomUUID()}`
  try {
    await run({ name, send })
    return { kind: 'passed' }
  } catch (error) {
    return {
      kind: error instanceof Unsupported ? 'unsupported' : 'failed',
      reason: withoutRandomness(reasonOf(error), name),
    }
  }
}

/** `fetch` says why a connection broke only in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error instanceof TypeError && error.cause ? 'the connection broke' : error.message
}

const withoutRandomness = (text: string, name: string): string =>
  text
    .replaceAll(name, '<name>')
    .replaceAll(/\b(sha\d+):[0-9a-f]{64,128}/g, '$1:…')
    .replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '…')

/** Fails unless the answer has one of these. */
export function expectStatus({ method, status, body }: Answer, ...expected: number[]): void {
  if (expected.includes(status)) return
  const said = /"code":\s*"([A-Z_]+)"/.exec(body.toString('utf8', 0, 1000))?.[1]
  const code = said === undefined ? '' : ` ${said}`
  throw new Error(`${method} answered ${status}${code}, expected ${expected.join(' or ')}`)
}

/** Fails unless `actual` is `expected`, both shown shortened. */
export function expectEqual(actual: unknown, expected: unknown, what: string): void {
  if (show(actual) === show(expected)) return
  throw new Error(`${what}: was ${shorten(show(actual))}, expected ${shorten(show(expected))}`)
}

/** Fails unless the answer has exactly these bytes. */
export function expectBody({ method, body }: Answer, expected: Uint8Array): void {
  if (body.equals(expected)) return
  throw new Error(`${method} answered ${body.length} other bytes, expected ${expected.length}`)
}

/** Fails unless a header is that; without `expected`, unless it is there. */
export function expectHeader({ method, headers }: Answer, header: string, expected?: string): void {
  const actual = headers.get(header)
  if (expected === undefined ? actual !== null : actual === expected) return
  const wanted = expected === undefined ? '' : `, expected ${expected}`
  throw new Error(`${method} answered ${header}: ${actual ?? '(nothing)'}${wanted}`)
}

/** Fails where a header is there and not that. */
export function expectHeaderIfAny(answer: Answer, header: string, expected: string): void {
  if (answer.headers.has(header)) expectHeader(answer, header, expected)
}

export function jsonOf({ method, body }: Answer): unknown {
  try {
    return JSON.parse(body.toString())
  } catch {
    throw new Error(`${method} answered a body that is not JSON`)
  }
}

const show = (value: unknown): string => JSON.stringify(value) ?? 'undefined'
const shorten = (text: string): string => (text.length > 300 ? `${text.slice(0, 300)}…` : text)
