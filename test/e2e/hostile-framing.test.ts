import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { octets, startHostileTarget, type HostileTarget } from './hostile-target.ts'
import { exchange, faultOf, parseAnswers } from './raw-http.ts'

let target: HostileTarget
beforeAll(async () => {
  target = await startHostileTarget()
})
afterAll(() => target[Symbol.asyncDispose]())

describe('a length', () => {
  it.each([
    ['negative', 'content-length: -1\r\n'],
    ['signed', 'content-length: +5\r\n'],
    ['not whole', 'content-length: 5.5\r\n'],
    ['hexadecimal', 'content-length: 0x5\r\n'],
    ['empty', 'content-length: \r\n'],
    ['beyond 64 bits', 'content-length: 99999999999999999999999999\r\n'],
    ['a list', 'content-length: 5, 5\r\n'],
    ['given twice', 'content-length: 5\r\ncontent-length: 5\r\n'],
    ['given twice differently', 'content-length: 5\r\ncontent-length: 6\r\n'],
    ['beside chunks', 'content-length: 5\r\ntransfer-encoding: chunked\r\n'],
    ['beside chunks, the other way', 'transfer-encoding: chunked\r\ncontent-length: 5\r\n'],
    ['an encoding that is none', 'transfer-encoding: xchunked\r\n'],
    ['chunks that are not last', 'transfer-encoding: chunked, identity\r\n'],
    ['a name with a space', 'content-length : 5\r\n'],
    ['a folded line', 'content-length:\r\n 5\r\n'],
    ['a bare line feed', 'x: y\ncontent-length: 5\r\n'],
  ])('that is %s is no request', async (_what, headers) => {
    const path = await target.startUpload()
    const smuggled = 'GET /v2/smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n'
    const body = `5\r\nhello\r\n0\r\n\r\n${smuggled}`
    const head = `PATCH ${path} HTTP/1.1\r\nhost: localhost\r\n${octets}${headers}\r\n`
    const { text, isClosed } = await exchange(target.port, head + body)
    expect(isClosed).toBe(true)
    const answers = parseAnswers(text)
    // Exactly one: nothing of the body is taken for another request.
    expect(answers.map(({ status }) => status)).toEqual([400])
    expect(answers.map((answer) => faultOf(answer, { method: 'PATCH', path }))).toEqual([undefined])
    await fetch(`${target.server.url}${path}`, { method: 'DELETE' })
  })

  it.each([
    ['no number', 'zz\r\nhello\r\n0\r\n\r\n'],
    ['negative', '-5\r\nhello\r\n0\r\n\r\n'],
    ['beyond 64 bits', `${'f'.repeat(20)}\r\nhello\r\n`],
    ['shorter than its data', '3\r\nhello\r\n0\r\n\r\n'],
    ['with an extension that does not end', `5;${'x'.repeat(100_000)}\r\nhello\r\n0\r\n\r\n`],
  ])('of a chunk that is %s ends the connection, not the upload', async (_what, body) => {
    const path = await target.startUpload()
    const head = `PATCH ${path} HTTP/1.1\r\nhost: localhost\r\n${octets}transfer-encoding: chunked\r\n\r\n`
    const { text, isClosed } = await exchange(target.port, head + body)
    expect(isClosed).toBe(true)
    const [answer] = parseAnswers(text)
    expect(answer?.status).toBeGreaterThanOrEqual(400)
    expect(answer?.status).toBeLessThan(500)
    const ended = async () =>
      (await fetch(`${target.server.url}${path}`, { method: 'DELETE' })).status
    await expect.poll(ended).toBe(204)
  })

  it('that is less than what is sent makes the rest another request', async () => {
    const path = await target.startUpload()
    const head = `PATCH ${path} HTTP/1.1\r\nhost: localhost\r\n${octets}content-length: 5\r\n\r\nhello`
    const next = `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`
    const { text } = await exchange(target.port, head + next)
    expect(parseAnswers(text).map(({ status }) => status)).toEqual([202, 204])
    await fetch(`${target.server.url}${path}`, { method: 'DELETE' })
  })
})

describe('what is no request', () => {
  it.each([
    ['text', 'hello\r\n\r\n'],
    ['zeros', '\0'.repeat(1000)],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['HTTP/3.0', 'GET /v2/ HTTP/3.0\r\nhost: localhost\r\n\r\n'],
    ['a method that is none', 'FROB /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n'],
    ['a header that is none', 'GET /v2/ HTTP/1.1\r\nhost: localhost\r\n: x\r\n\r\n'],
    ['a header with a NUL', 'GET /v2/ HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n'],
    ['no host', 'GET /v2/ HTTP/1.1\r\nconnection: close\r\n\r\n'],
    [
      'two hosts',
      'GET /v2/ HTTP/1.1\r\nhost: localhost\r\nHost: localhost\r\nconnection: close\r\n\r\n',
    ],
    ['CONNECT', 'CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n'],
    ['a long line', `GET /${'x'.repeat(100_000)} HTTP/1.1\r\nhost: localhost\r\n\r\n`],
    ['many headers', `GET /v2/ HTTP/1.1\r\nhost: localhost\r\n${'x: y\r\n'.repeat(10_000)}\r\n`],
  ])('%s is refused, and the connection ends', async (_what, bytes) => {
    const { text, isClosed } = await exchange(target.port, bytes, { patienceMs: 5000 })
    expect(isClosed).toBe(true)
    const [answer, ...more] = parseAnswers(text)
    expect(more).toEqual([])
    if (!answer) throw new Error('no answer')
    expect(faultOf(answer, { method: 'GET', path: '/v2/' })).toBeUndefined()
    expect(answer.status).toBeGreaterThanOrEqual(400)
  })

  it('upgrades and odd expectations are ignored', async () => {
    for (const headers of ['connection: upgrade\r\nupgrade: h2c\r\n', 'expect: the-moon\r\n']) {
      expect(await target.statusOf({ path: '/v2/', headers })).toBe(200)
    }
  })
})

it('all of it has left the server as it was', async () => {
  expect(await target.damage()).toEqual([])
})
