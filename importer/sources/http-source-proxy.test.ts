import { readFile } from 'node:fs/promises'
import { createServer as createTlsServer } from 'node:https'
import { expect, test } from 'vitest'
import { parseProxies } from '../../core/proxies.ts'
import { createAuthority } from '../../test/fixtures/certificates.ts'
import { collect, noise } from '../../test/fixtures/chunks.ts'
import { freePort, listenOnLoopback } from '../../test/fixtures/ports.ts'
import { startProxy } from '../../test/fixtures/proxy-server.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { startWebServer } from '../../test/fixtures/web-server.ts'
import { parseAddressPolicy } from './address-policy.ts'
import { openHttpSource, webAddress } from './http-source.ts'

const body = noise(100_000)
const { signal } = new AbortController()
const options = { signal, retryDelaysMs: [] }

async function fetchFrom(url: string, change: object): Promise<Buffer> {
  await using source = await openHttpSource([webAddress(url)], { ...options, ...change })
  return await collect(source.body)
}

test('a proxy is asked for names that only it knows, with its own login', async () => {
  await using web = await startWebServer((_request, response) => void response.end(body))
  await using proxy = await startProxy()
  const http_proxy = proxy.origin.replace('//', '//me:secret@')
  const { port } = new URL(web.origin)
  const url = `http://images.internal:${port}/a?b`
  const fetched = await fetchFrom(url, { proxies: parseProxies({ http_proxy }) })
  expect(fetched.equals(body)).toBe(true)
  expect(proxy.asked).toEqual([url])
  expect(proxy.authorizations).toEqual([`Basic ${Buffer.from('me:secret').toString('base64')}`])
  expect(web.requests[0]?.headers).toMatchObject({ host: `images.internal:${port}` })
})

test('TLS goes through a proxy to the server, whose certificate counts', async () => {
  await using folder = await createTempFolder()
  const authority = await createAuthority(folder.path)
  const { cert, key } = await authority.issue('server')
  const files = { cert: await readFile(cert), key: await readFile(key) }
  await using server = createTlsServer(files, (_request, response) => void response.end(body))
  const port = await listenOnLoopback(server)
  await using proxy = await startProxy()
  const proxies = parseProxies({ https_proxy: proxy.origin })
  const ca = await readFile(authority.ca, 'utf8')
  const url = `https://images.internal:${port}/`
  const wrongName = fetchFrom(url, { proxies, tls: { ca } })
  await expect(wrongName).rejects.toMatchObject({ code: 'SOURCE_TLS_INVALID' })
  const fetched = await fetchFrom(url, { proxies, tls: { ca, insecure: true } })
  expect(fetched.equals(body)).toBe(true)
  expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT images.internal:${port}`]))
  server.closeAllConnections()
})

test('what no_proxy names is asked directly', async () => {
  await using web = await startWebServer((_request, response) => void response.end(body))
  await using proxy = await startProxy()
  const proxies = parseProxies({ http_proxy: proxy.origin })
  expect((await fetchFrom(web.origin, { proxies })).equals(body)).toBe(true)
  expect(proxy.asked).toEqual([])
})

test('the policy judges what a proxy is asked for by name and by address', async () => {
  await using proxy = await startProxy()
  const proxies = parseProxies({ http_proxy: proxy.origin, https_proxy: proxy.origin })
  const policy = parseAddressPolicy('restricted,-*.internal')
  for (const url of ['http://10.0.0.1/', 'https://a.internal/', 'http://169.254.169.254/']) {
    await expect(fetchFrom(url, { proxies, policy })).rejects.toMatchObject({
      code: 'SOURCE_FORBIDDEN',
    })
  }
  expect(proxy.asked).toEqual([])
})

test('a proxy that is not there, or refuses, is named without its login', async () => {
  const address = `127.0.0.1:${await freePort()}`
  const env = { http_proxy: `http://me:secret@${address}` }
  const failure = fetchFrom('http://images.internal/', { proxies: parseProxies(env) })
  await expect(failure).rejects.toMatchObject({ code: 'SOURCE_UNAVAILABLE' })
  await expect(failure).rejects.toThrow(`through the proxy ${address}: connection refused`)
  await using refusing = await startWebServer((_in, out) => void out.writeHead(407).end())
  for (const scheme of ['http', 'https']) {
    const proxies = parseProxies({ [`${scheme}_proxy`]: refusing.origin })
    const refused = fetchFrom(`${scheme}://images.internal/`, { proxies })
    await expect(refused).rejects.toThrow(new URL(refusing.origin).host)
  }
})
