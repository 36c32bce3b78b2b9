import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { listenOnLoopback } from '../test/fixtures/ports.ts'
import { refusalIn } from '../test/fixtures/refusal.ts'
import type { Login } from './docker-config.ts'
import { createHttpClient, type HttpClient } from './http-client.ts'

const alice: Login = { kind: 'password', user: 'alice', password: 'secret' }
const tokenFor = (scopes: readonly string[]): string => `for-${scopes.join('+')}`
const basic = `Basic ${Buffer.from('alice:secret').toString('base64')}`

interface Options {
  readonly login?: Login | (() => Login)
  /** What a request needs; `undefined`: nothing. */
  readonly wants: (request: IncomingMessage) => string | undefined
  /** What the token service answers; by default a token that names its scopes. */
  readonly token?: (scopes: string[], request: IncomingMessage, body: string) => object
}

/** A registry that only looks at who asks, with the token service that it names. */
async function setUp({ login, wants, token }: Options) {
  const seen: string[] = []
  let body = 0
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { url = '', method, headers } = request
    const path = new URL(url, 'http://x').pathname
    if (path === '/token') {
      const form = await text(request)
      const query = new URLSearchParams(method === 'POST' ? form : url.split('?')[1])
      const scopes = query.getAll('scope')
      seen.push(`token ${scopes.join(' ')}`)
      const answer = token?.(scopes, request, form) ?? { token: tokenFor(scopes) }
      const status = Object.keys(answer).length === 0 ? 401 : 200
      response.writeHead(status).end(JSON.stringify(answer))
      return
    }
    seen.push(`${method} ${path}`)
    const wanted = wants(request)
    for await (const chunk of request) body += Buffer.from(chunk).length
    if (wanted === undefined || headers.authorization === wanted) return void response.end('{}')
    const scheme = wanted.startsWith('Basic')
      ? 'Basic realm="x"'
      : `Bearer realm="${origin}/token",service="s"`
    response.writeHead(401, { 'www-authenticate': scheme }).end('{}')
  }
  const server = createServer((request, response) => void serve(request, response))
  const origin = `http://127.0.0.1:${await listenOnLoopback(server)}`
  const client = createHttpClient(new URL(origin), {
    findLogin: async () => (typeof login === 'function' ? login() : login),
  })
  return {
    client,
    seen,
    received: () => body,
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]()
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}

const get = async (client: HttpClient, path: string): Promise<number> => {
  const response = await client.send(path, { method: 'GET', accept: [200] })
  await response.body.dump()
  return response.statusCode
}

test('a login is not shown to a registry that does not ask for it', async () => {
  const shown: unknown[] = []
  await using setup = await setUp({
    login: alice,
    wants: ({ headers }) => void shown.push(headers.authorization),
  })
  await get(setup.client, '/v2/')
  await get(setup.client, '/v2/a/manifests/1')
  expect(shown).toEqual([undefined, undefined])
})

test('Basic is answered once and shown from then on', async () => {
  await using setup = await setUp({ login: alice, wants: () => basic })
  await get(setup.client, '/v2/')
  await get(setup.client, '/v2/a/manifests/1')
  expect(setup.seen).toEqual(['GET /v2/', 'GET /v2/', 'GET /v2/a/manifests/1'])
})

test('a wrong login is no reason to ask for ever', async () => {
  await using setup = await setUp({ login: { ...alice, password: 'x' }, wants: () => basic })
  expect(await refusalIn(get(setup.client, '/v2/'))).toBe('UNAUTHORIZED')
  expect(await refusalIn(get(setup.client, '/v2/'))).toBe('UNAUTHORIZED')
  expect(setup.seen).toEqual(['GET /v2/', 'GET /v2/', 'GET /v2/'])
})

test('a login that was replaced is shown in the place of the refused one', async () => {
  const logins = ['one', 'two'].map((password) => ({ ...alice, password }))
  const shown = ['one', 'two'].map(
    (password) => `Basic ${Buffer.from(`alice:${password}`).toString('base64')}`,
  )
  let valid = 0
  const login = (): Login => logins[valid] ?? alice
  await using setup = await setUp({ login, wants: () => shown[valid] })
  const both = (): Promise<number[]> =>
    Promise.all([get(setup.client, '/v2/'), get(setup.client, '/v2/')])
  expect(await both()).toEqual([200, 200])
  valid = 1
  expect(await both()).toEqual([200, 200])
  const asked = setup.seen.length
  expect(await both()).toEqual([200, 200])
  expect(setup.seen.length).toBe(asked + 2)
})

test('every token is asked for with the login of that moment', async () => {
  let password = 'one'
  const seen: (string | undefined)[] = []
  await using setup = await setUp({
    login: () => ({ ...alice, password }),
    wants: () => `Bearer ${password}`,
    token: (_scopes, { headers }) => {
      seen.push(headers.authorization)
      return { token: password }
    },
  })
  await get(setup.client, '/v2/a/manifests/1')
  password = 'two'
  await get(setup.client, '/v2/a/manifests/1')
  expect(seen.map((one) => Buffer.from(one?.slice(6) ?? '', 'base64').toString())).toEqual([
    'alice:one',
    'alice:two',
  ])
})

test('a token is asked for with the scope of the request, and used again', async () => {
  const logins: unknown[] = []
  await using setup = await setUp({
    login: alice,
    wants: ({ url = '' }) =>
      url.startsWith('/v2/a/') ? 'Bearer for-repository:a:pull' : 'Bearer for-',
    token(scopes, { headers }) {
      logins.push(headers.authorization)
      return { access_token: tokenFor(scopes), expires_in: 300 }
    },
  })
  await get(setup.client, '/v2/')
  await Promise.all(['1', '2', '3'].map((tag) => get(setup.client, `/v2/a/manifests/${tag}`)))
  await get(setup.client, '/v2/')
  expect(setup.seen.filter((one) => one.startsWith('token'))).toEqual([
    'token ',
    'token repository:a:pull',
  ])
  expect(logins).toEqual([basic, basic])
})

test('a token is asked for anew before half of its life is left', async () => {
  await using setup = await setUp({
    wants: () => 'Bearer t',
    token: () => ({ token: 't', expires_in: 0.2 }),
  })
  await get(setup.client, '/v2/')
  await new Promise((resolve) => setTimeout(resolve, 120))
  await get(setup.client, '/v2/')
  expect(setup.seen).toEqual(['GET /v2/', 'token ', 'GET /v2/', 'token ', 'GET /v2/'])
})

test('a token that is refused is replaced once', async () => {
  let key = 'old'
  await using setup = await setUp({
    wants: () => `Bearer ${key}`,
    token: () => ({ token: key, expires_in: 300 }),
  })
  await get(setup.client, '/v2/')
  key = 'new'
  await get(setup.client, '/v2/')
  expect(setup.seen.filter((one) => one.startsWith('token'))).toHaveLength(2)
})

test('scopes that a refusal names are asked for beside our own', async () => {
  const both = ['repository:a:pull', 'repository:b:pull']
  const server = createServer((request, response) => {
    const isToken = request.url?.startsWith('/token')
    if (isToken) {
      const scopes = new URL(request.url ?? '', origin).searchParams.getAll('scope')
      response.end(JSON.stringify({ token: scopes.join('+') }))
    } else if (request.headers.authorization === `Bearer ${both.join('+')}`) response.end()
    else {
      const challenge = `Bearer realm="${origin}/token",scope="${both[1]}",error="insufficient_scope"`
      response.writeHead(401, { 'www-authenticate': challenge }).end()
    }
  })
  const origin = `http://127.0.0.1:${await listenOnLoopback(server)}`
  await using client = createHttpClient(new URL(origin))
  expect(await get(client, '/v2/a/manifests/1')).toBe(200)
  server.closeAllConnections()
  server.close()
})

test('an identity token is exchanged by the form of OAuth2', async () => {
  let form = ''
  await using setup = await setUp({
    login: { kind: 'identity', token: 'refresh-me' },
    wants: () => 'Bearer t',
    token(_scopes, { headers }, body) {
      form = body
      expect(headers.authorization).toBeUndefined()
      return { token: 't' }
    },
  })
  await get(setup.client, '/v2/a/tags/list')
  expect(Object.fromEntries(new URLSearchParams(form))).toEqual({
    service: 's',
    grant_type: 'refresh_token',
    refresh_token: 'refresh-me',
    client_id: 'dvcr',
    scope: 'repository:a:pull',
  })
})

test('a token service that refuses says what to do', async () => {
  await using setup = await setUp({ login: alice, wants: () => 'Bearer x', token: () => ({}) })
  await expect(get(setup.client, '/v2/')).rejects.toThrow(/dvcr login 127\.0\.0\.1:\d+$/)
})

test('a stream goes out once, with a token that was fetched before', async () => {
  await using setup = await setUp({
    login: alice,
    wants: () => 'Bearer for-repository:a:pull,push',
  })
  const start = await setup.client.send('/v2/a/blobs/uploads/', {
    method: 'POST',
    body: new Uint8Array(0),
    accept: [200],
  })
  await start.body.dump()
  async function* bytes(): AsyncGenerator<Uint8Array, void> {
    for (let piece = 0; piece < 10; piece += 1) yield new Uint8Array(100_000)
  }
  const sent = await setup.client.send('/v2/a/blobs/uploads/1', {
    method: 'PATCH',
    body: bytes(),
    accept: [200],
  })
  await sent.body.dump()
  expect(setup.received()).toBe(1_000_000)
  expect(setup.seen).toEqual([
    'POST /v2/a/blobs/uploads/',
    'token repository:a:pull,push',
    'POST /v2/a/blobs/uploads/',
    'PATCH /v2/a/blobs/uploads/1',
  ])
})

test('our own API is shown a login at once, and one that cannot be had only where it matters', async () => {
  await using open = await setUp({ login: alice, wants: () => basic })
  await get(open.client, '/v1/images')
  expect(open.seen).toEqual(['GET /v1/images'])
  const server = createServer((request, response) => {
    const isClosed = request.url?.endsWith('closed') === true
    if (isClosed) response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' })
    response.end()
  })
  const base = new URL(`http://127.0.0.1:${await listenOnLoopback(server)}`)
  await using client = createHttpClient(base, {
    findLogin: () => Promise.reject(new Error('the vault is locked')),
  })
  expect(await get(client, '/v1/open')).toBe(200)
  await expect(get(client, '/v1/closed')).rejects.toThrow('the vault is locked')
  server.closeAllConnections()
  server.close()
})

test('a secret is not sent in the clear because a registry says so', async () => {
  const { createClientAuth } = await import('./client-auth.ts')
  const auth = createClientAuth({
    base: new URL('https://registry.example'),
    findLogin: () => Promise.resolve(alice),
    fetchToken: () => Promise.reject(new Error('asked for a token')),
  })
  const asked = { method: 'GET', path: '/v2/' }
  expect(await auth.learn(asked, 'Bearer realm="http://registry.example/token"', undefined)).toBe(
    false,
  )
  expect(await auth.learn(asked, 'Bearer realm="file:///token"', undefined)).toBe(false)
  expect(await auth.learn(asked, 'Bearer service="x"', undefined)).toBe(false)
  expect(await auth.authorize(asked)).toBeUndefined()
  expect(await auth.learn(asked, 'Bearer realm="https://auth.example/token"', undefined)).toBe(true)
})
