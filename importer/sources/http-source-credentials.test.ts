import { readFile } from 'node:fs/promises'
import { createServer as createTlsServer } from 'node:https'
import { describe, expect, test } from 'vitest'
import { collect, noise } from '../../test/fixtures/chunks.ts'
import { createAuthority } from '../../test/fixtures/certificates.ts'
import { listenOnLoopback } from '../../test/fixtures/ports.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { startWebServer, type WebServer } from '../../test/fixtures/web-server.ts'
import type { Credentials } from './credentials.ts'
import { openHttpSource, webAddress } from './http-source.ts'

const body = noise(100_000)
const { signal } = new AbortController()
const options = { signal, retryDelaysMs: [1, 1] }
const secrets: Credentials = { token: 'secret-token', headers: { 'X-Key': 'secret-key' } }

async function fetchWith(url: string, credentials: Credentials, change: object = {}) {
  const address = webAddress(url, credentials)
  await using source = await openHttpSource([address], { ...options, ...change })
  return await collect(source.body)
}

/** What a server was told of the secrets, request by request. */
const told = ({ requests }: WebServer) =>
  requests.map(({ headers }) => [headers.authorization, headers['x-key']])

const known = ['Bearer secret-token', 'secret-key']
const nothing = [undefined, undefined]

describe('a token and headers', () => {
  test('go to the origin of the source, and to no other one, not even from there back', async () => {
    await using other = await startWebServer((_request, response) => {
      response.writeHead(302, { location: `${web.origin}/back` }).end()
    })
    await using web = await startWebServer((request, response) => {
      if (request.url === '/a') response.writeHead(302, { location: '/b' }).end()
      else if (request.url === '/b') response.writeHead(302, { location: other.origin }).end()
      else response.end(body)
    })
    expect((await fetchWith(`${web.origin}/a`, secrets)).equals(body)).toBe(true)
    expect(told(web)).toEqual([known, known, nothing])
    expect(told(other)).toEqual([nothing])
  })

  test('go with what continues a transfer only where they went with what began it', async () => {
    for (const where of ['here', 'there']) {
      await using far = await startWebServer((request, response, count) => {
        const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
        const rest = body.subarray(start)
        const range = `bytes ${start}-${body.length - 1}/${body.length}`
        const headers = { etag: '"one"', 'content-length': rest.length, 'content-range': range }
        response.writeHead(start === 0 ? 200 : 206, headers)
        if (count === 1) response.write(rest.subarray(0, 50_000), () => response.destroy())
        else response.end(rest)
      })
      await using near = await startWebServer((_request, response) => {
        response.writeHead(302, { location: far.origin }).end()
      })
      const start = where === 'here' ? far : near
      expect((await fetchWith(start.origin, secrets)).equals(body)).toBe(true)
      expect(told(far)).toEqual(where === 'here' ? [known, known] : [nothing, nothing])
    }
  })

  test('are in no error', async () => {
    await using web = await startWebServer((_request, response) => {
      response.writeHead(401, { location: '/secret-key' }).end('secret-token secret-key')
    })
    const error: unknown = await fetchWith(web.origin, secrets).catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'SOURCE_DENIED' })
    expect(String(error) + JSON.stringify(error)).not.toContain('secret-')
  })
})

describe('a server whose certificate nobody knows', () => {
  async function startGuarded() {
    await using folder = await createTempFolder()
    const authority = await createAuthority(folder.path)
    const { cert, key } = await authority.issue('server')
    const files = { cert: await readFile(cert), key: await readFile(key) }
    const server = createTlsServer(files, (_request, response) => void response.end(body))
    const port = await listenOnLoopback(server)
    return {
      url: `https://localhost:${port}/`,
      ca: await readFile(authority.ca, 'utf8'),
      async [Symbol.asyncDispose]() {
        server.closeAllConnections()
        await server[Symbol.asyncDispose]()
      },
    }
  }

  test('is trusted by its authority, or where nobody cares, and else not', async () => {
    await using server = await startGuarded()
    const { url, ca } = server
    await expect(fetchWith(url, {})).rejects.toMatchObject({ code: 'SOURCE_TLS_INVALID' })
    expect((await fetchWith(url, {}, { tls: { ca } })).equals(body)).toBe(true)
    expect((await fetchWith(url, {}, { tls: { insecure: true } })).equals(body)).toBe(true)
    await using folder = await createTempFolder()
    const stranger = await readFile((await createAuthority(folder.path, 'stranger')).ca, 'utf8')
    const refused = fetchWith(url, {}, { tls: { ca: stranger } })
    await expect(refused).rejects.toMatchObject({ code: 'SOURCE_TLS_INVALID' })
  })
})
