import { readFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createHashPool, type HashPool } from '../../core/hash-pool.ts'
import { parseProxies } from '../../core/proxies.ts'
import type { Registry } from '../../core/registry.ts'
import { createAuthority } from '../../test/fixtures/certificates.ts'
import { listenOnLoopback } from '../../test/fixtures/ports.ts'
import { startProxy, type ProxyServer } from '../../test/fixtures/proxy-server.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { parseSource, type WantedSource } from './source-address.ts'

const host = 'registry.internal'
const { signal } = new AbortController()
const registry: Registry = new Proxy(Object.create(null), {})
const owned = new AsyncDisposableStack()
let hashPool: HashPool
// Only it knows the host.
let proxy: ProxyServer
let ca: string
let tlsPort: number
let plainPort: number

beforeAll(async () => {
  hashPool = owned.use(createHashPool({ threads: 1 }))
  proxy = owned.use(await startProxy())
  await using folder = await createTempFolder()
  const authority = await createAuthority(folder.path)
  const { cert, key } = await authority.issue('registry', host)
  ca = await readFile(authority.ca, 'utf8')
  const empty: RequestListener = (_request, response) => void response.writeHead(404).end()
  const tls = createTlsServer({ cert: await readFile(cert), key: await readFile(key) }, empty)
  const plain = createServer(empty)
  for (const server of [tls, plain]) {
    owned.defer(() => {
      server.closeAllConnections()
      server.close()
    })
  }
  tlsPort = await listenOnLoopback(tls)
  plainPort = await listenOnLoopback(plain)
})
afterAll(() => owned.disposeAsync())

/** Asks a registry that has nothing. */
function codeAt(port: number, wanted: Partial<WantedSource>): Promise<unknown> {
  const source = `docker://${host}:${port}/a:1`
  const proxies = parseProxies({ http_proxy: proxy.origin, https_proxy: proxy.origin })
  const opening = parseSource({
    source,
    checksums: {},
    architecture: 'amd64',
    ...wanted,
  }).open({
    signal,
    proxies,
    checksums: {},
    retryDelaysMs: [],
    registry,
    hashPool,
    maxVirtualSize: 2 ** 40,
    scratchFolder: '/nonexistent',
  })
  return opening.then(
    () => 'opened',
    (error: unknown) => Object(error).code,
  )
}

test('a registry is trusted by its authority, or where nobody cares, and else not', async () => {
  expect(await codeAt(tlsPort, {})).toBe('SOURCE_TLS_INVALID')
  expect(await codeAt(tlsPort, { ca })).toBe('SOURCE_NOT_FOUND')
  expect(await codeAt(tlsPort, { insecureSkipVerify: true })).toBe('SOURCE_NOT_FOUND')
})

test('a registry without TLS is asked only where nobody cares', async () => {
  expect(await codeAt(plainPort, { ca })).toBe('SOURCE_TLS_INVALID')
  expect(await codeAt(plainPort, { insecureSkipVerify: true })).toBe('SOURCE_NOT_FOUND')
})
