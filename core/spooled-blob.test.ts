import type { IncomingMessage, ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { createTempFolder } from '../test/fixtures/temp-folder.ts'
import { startWebServer } from '../test/fixtures/web-server.ts'
import type { Login } from './docker-config.ts'
import { createHashPool } from './hash-pool.ts'
import { createHttpClient } from './http-client.ts'
import { createSpooledBlob } from './spooled-blob.ts'

const bytes = Buffer.alloc(3_000_000, 'disk')
const { signal } = new AbortController()
const uploadAt = '/v2/a/blobs/uploads/1'

test('a push goes on with the login that takes the place of a refused one', async () => {
  let password = 'one'
  let received = Buffer.alloc(0)
  const seen: string[] = []
  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', headers } = request
    const answer = (status: number, more = {}): void =>
      void response.writeHead(status, { location: uploadAt, ...more }).end()
    if (method === 'PATCH' && received.length === 0 && password === 'one') password = 'two'
    const wanted = `Basic ${Buffer.from(`me:${password}`).toString('base64')}`
    if (headers.authorization !== wanted) {
      return answer(401, { 'www-authenticate': 'Basic realm="x"' })
    }
    seen.push(method)
    const body = await buffer(request)
    if (method === 'PATCH') received = Buffer.concat([received, body])
    const status = { HEAD: 404, POST: 202, PATCH: 202, PUT: 201, DELETE: 204 }[method] ?? 204
    answer(status)
  }
  // Its password becomes another one when the first bytes come.
  await using server = await startWebServer((request, response) => void serve(request, response))
  await using hashPool = createHashPool({ threads: 1 })
  await using scratch = await createTempFolder()
  const findLogin = async (): Promise<Login> => ({ kind: 'password', user: 'me', password })
  await using http = createHttpClient(new URL(server.origin), { findLogin })
  const deps = { http, hashPool, scratchFolder: scratch.path }
  const blob = await createSpooledBlob('/v2/a', { signal }, deps)
  await blob.write(bytes)
  await blob.finish()
  await blob.commit()
  expect([received.equals(bytes), seen.at(-1)]).toEqual([true, 'PUT'])
})
