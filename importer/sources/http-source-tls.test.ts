import { readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:https'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { execa } from 'execa'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { collect } from '../../test/fixtures/chunks.ts'
import { listenOnLoopback } from '../../test/fixtures/ports.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { openHttpSource, webAddress } from './http-source.ts'

const { signal } = new AbortController()
const known = getCACertificates('default')
let cert: string
let server: Server
let origin: string

beforeAll(async () => {
  await using folder = await createTempFolder()
  const [key, certificate] = [join(folder.path, 'key.pem'), join(folder.path, 'cert.pem')]
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=x']
  const name = ['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', certificate]
  await execa('openssl', [...request, ...name])
  cert = await readFile(certificate, 'utf8')
  server = createServer({ key: await readFile(key), cert }, (incoming, response) => {
    if (incoming.url === '/body') response.end('over TLS')
    else if (incoming.url === '/here') response.writeHead(302, { location: '/body' }).end()
    else response.writeHead(302, { location: 'http://127.0.0.1/body' }).end()
  })
  origin = `https://127.0.0.1:${await listenOnLoopback(server)}`
})
afterAll(() => {
  server.closeAllConnections()
  server.close()
})
afterEach(() => setDefaultCACertificates(known))

async function fetchText(url: string): Promise<string> {
  await using source = await openHttpSource([webAddress(url)], { signal, retryDelaysMs: [1] })
  return (await collect(source.body)).toString()
}

test('a certificate that nobody signed is refused, at once', async () => {
  await expect(fetchText(`${origin}/body`)).rejects.toMatchObject({
    code: 'SOURCE_TLS_INVALID',
    retryable: false,
  })
})

test('a certificate for another name is refused', async () => {
  setDefaultCACertificates([...known, cert])
  const url = `${origin.replace('127.0.0.1', 'localhost')}/body`
  await expect(fetchText(url)).rejects.toMatchObject({ code: 'SOURCE_TLS_INVALID' })
})

test('a certificate of a known authority is taken', async () => {
  setDefaultCACertificates([...known, cert])
  expect(await fetchText(`${origin}/here`)).toBe('over TLS')
})

test('a redirect from https to http is refused', async () => {
  setDefaultCACertificates([...known, cert])
  await expect(fetchText(`${origin}/away`)).rejects.toMatchObject({
    code: 'SOURCE_INVALID',
    message: expect.stringContaining('redirects from https to http://127.0.0.1/body'),
  })
})

test('a server that does not speak TLS is refused', async () => {
  const { createServer: createPlainServer } = await import('node:http')
  await using plain = createPlainServer((_request, response) => void response.end('plain'))
  const port = await listenOnLoopback(plain)
  await expect(fetchText(`https://127.0.0.1:${port}/`)).rejects.toMatchObject({
    code: 'SOURCE_TLS_INVALID',
  })
})
