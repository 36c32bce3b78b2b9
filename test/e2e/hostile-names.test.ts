import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { blob, digest, octets, startHostileTarget, type HostileTarget } from './hostile-target.ts'

let target: HostileTarget
beforeAll(async () => {
  target = await startHostileTarget()
})
afterAll(() => target[Symbol.asyncDispose]())

describe('a path', () => {
  it.each([
    '/v2/../../etc/passwd',
    '/v2/../v1/images',
    '/v2/a/../../x/manifests/y',
    '/v2/..%2f..%2fetc%2fpasswd/manifests/x',
    '/v2/%2e%2e/%2e%2e/manifests/x',
    '/v2/%252e%252e/manifests/x',
    '/v2/a%00b/manifests/x',
    '/v2/a/manifests/x%00',
    '/v2/a/manifests/..',
    '/v2/a/manifests/%2e%2e%2fx',
    '/v2/a/blobs/uploads/..%2f..%2fx',
    '/v2/a/blobs/uploads/%2e%2e',
    '/v2/a/blobs/../x',
    '/v2/a\\b/manifests/x',
    '/v2/a%5c..%5cb/manifests/x',
    '/v2/%c0%ae%c0%ae/manifests/x',
    '/v2/%ff/manifests/x',
    '/v2/%F0%9F%98%80/manifests/x',
    '/v2/\u00e4/manifests/x',
    '/v2/_m/manifests/x',
    '/v2/a/_t/manifests/x',
    '/v2/a//b/manifests/x',
    '/v2//manifests/x',
    '/v2/a/./manifests/x',
    '/v2/a%20b/manifests/x',
    '/v2/A/manifests/x',
    '/v2/%zz/manifests/x',
    '/v2/%/manifests/x',
    `/v2/${'a/'.repeat(120)}a/b/c/d/e/f/g/h/manifests/x`,
    `/v2/${'a'.repeat(5000)}/manifests/x`,
    `/v2/a/manifests/${'x'.repeat(129)}`,
    `/v2/a/manifests/${'x'.repeat(20_000)}`,
    '/v2/a/referrers/..',
    '/v2/a/tags/list/../x',
    '/v2/manifests/manifests',
    '//v2/',
    '/v2/a/manifests/x;y',
    '*',
    'http://localhost/v2/a/manifests/x',
    'http://user:secret@other.example/v2/%2e%2e/manifests/x',
  ])('case %# is refused for every method', async (path) => {
    for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'POST']) {
      const isAbsolute = path.startsWith('http')
      const status = await target.statusOf({
        method,
        path,
        headers: `${octets}content-length: 0\r\n`,
      })
      const isRefused = status >= 400 && status < 500
      expect([path, method, status, isRefused || isAbsolute]).toEqual([path, method, status, true])
    }
  })

  it('with an escaped slash names what one with a slash does', async () => {
    const escaped = await target.ask({ path: `/v2/a%2Fb/blobs/${digest}` })
    const plain = await target.ask({ path: `/v2/a/b/blobs/${digest}` })
    expect(escaped.status).toBe(plain.status)
  })
})

describe('a digest', () => {
  it.each([
    'sha256:',
    'sha256:baddigeststring',
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'a'.repeat(63)}`,
    `sha256:${'a'.repeat(65)}`,
    `sha512:${'a'.repeat(64)}`,
    `md5:${'a'.repeat(32)}`,
    `sha256%3A${'a'.repeat(10)}`,
    `sha256:${'a'.repeat(62)}%0a`,
    'sha256:..%2f..%2f..%2fx',
    ':',
    '%00',
    'sha256:sha256:sha256',
  ])('case %# is refused wherever it is', async (text) => {
    const { method, headers } = { method: 'POST', headers: `${octets}content-length: 1\r\n` }
    const one = 'x'
    // With slashes in it there is no such endpoint.
    const refused = text.includes('%2f') ? 404 : 400
    expect(await target.statusOf({ path: `/v2/a/blobs/${text}` })).toBe(refused)
    expect(await target.statusOf({ method: 'DELETE', path: `/v2/a/blobs/${text}` })).toBe(refused)
    expect(await target.statusOf({ path: `/v2/a/referrers/${text}` })).toBe(refused)
    const start = '/v2/a/blobs/uploads/'
    expect(
      await target.statusOf({ method, path: `${start}?digest=${text}`, headers, body: one }),
    ).toBe(400)
    const mount = { method, headers: 'content-length: 0\r\n' }
    expect(await target.statusOf({ ...mount, path: `${start}?mount=${text}&from=a` })).toBe(400)
    const path = `${await target.startUpload()}?digest=${text}`
    expect(await target.statusOf({ method: 'PUT', path, headers, body: one })).toBe(400)
    await fetch(`${target.server.url}${path}`, { method: 'DELETE' })
  })
})

describe('a range', () => {
  it.each([
    ['bytes=0-', 206, [0, 5000]],
    ['bytes=0-0', 206, [0, 1]],
    ['bytes=-1', 206, [4999, 5000]],
    ['bytes=-5000', 206, [0, 5000]],
    ['bytes=-99999999999999999999999', 206, [0, 5000]],
    ['bytes=4999-99999999999999999999999', 206, [4999, 5000]],
    ['bytes=5000-', 416, [0, 0]],
    ['bytes=99999999999999999999999-', 416, [0, 0]],
    ['bytes=10-5', 416, [0, 0]],
    ['bytes=-0', 416, [0, 0]],
    ['bytes=', 200, [0, 5000]],
    ['bytes=-', 200, [0, 5000]],
    ['bytes=--1', 200, [0, 5000]],
    ['bytes=0x10-0x20', 200, [0, 5000]],
    ['bytes=1e3-', 200, [0, 5000]],
    ['bytes=1.5-2', 200, [0, 5000]],
    ['bytes=a-b', 200, [0, 5000]],
    ['bytes=0-1,3-4', 200, [0, 5000]],
    [`bytes=${'0-1,'.repeat(3000)}0-1`, 200, [0, 5000]],
    [`bytes=${' '.repeat(20_000)}0-x`, 200, [0, 5000]],
    ['lines=0-1', 200, [0, 5000]],
    ['garbage', 200, [0, 5000]],
  ] as const)(
    'case %# of a blob is answered as RFC 9110 says',
    async (range, status, [start, end]) => {
      const answer = await target.ask({
        path: `/v2/a/blobs/${digest}`,
        headers: `range: ${range}\r\n`,
      })
      const contentRanges = {
        200: undefined,
        206: `bytes ${start}-${end - 1}/5000`,
        416: 'bytes */5000',
      }
      const contentRange = answer.headers.get('content-range')
      expect([answer.status, contentRange]).toEqual([status, contentRanges[status]])
      const isRight = status === 416 || answer.body.equals(blob.subarray(start, end))
      expect(isRight).toBe(true)
    },
  )

  it.each([
    '1-10',
    '-1-5',
    '5-1',
    '0-',
    '-',
    '',
    'a-b',
    '0-99999999999999999999',
    '9007199254740993-9007199254740994',
    '0-9,10-19',
    '0x0-0x9',
    '0-1e1',
    '1'.repeat(20_000),
  ])('case %# of a chunk that does not fit is refused, and the upload goes on', async (range) => {
    const path = await target.startUpload()
    const headers = `${octets}content-length: 10\r\ncontent-range: ${range}\r\n`
    const status = await target.statusOf({ method: 'PATCH', path, headers, body: 'x'.repeat(10) })
    expect([400, 416]).toContain(status)
    const url = `${target.server.url}${path}`
    expect((await fetch(url)).headers.get('range')).toBe('0-0')
    expect((await fetch(url, { method: 'DELETE' })).status).toBe(204)
  })
})

describe('a query', () => {
  it.each([
    '/v2/a/tags/list?n=-1',
    '/v2/a/tags/list?n=1e9',
    '/v2/a/tags/list?n=99999999999999999999',
    '/v2/a/tags/list?n=NaN',
    '/v2/_catalog?n=0x10',
    '/v2/_catalog?n=%00',
  ])('%s is refused', async (path) => {
    expect(await target.statusOf({ path })).toBe(400)
  })

  it.each([
    '/v2/a/tags/list?last=%00',
    '/v2/a/tags/list?last=../../x',
    '/v2/_catalog?last=../../../etc&n=5',
    '/v2/_catalog?last=%0d%0aset-cookie:x&n=1',
    `/v2/_catalog?last=${'x'.repeat(10_000)}`,
    '/v2/_catalog?n=1&n=2&last=a&last=b',
    '/v2/_catalog?%zz=%zz',
    `/v2/_catalog?${'a=b&'.repeat(5000)}`,
    '/v2/_catalog??&&==',
  ])('case %# is answered without a fault', async (path) => {
    const answer = await target.ask({ path })
    expect(answer.status).toBeLessThan(500)
    expect(answer.headers.has('set-cookie')).toBe(false)
  })
})

it('all of it has left the server as it was', async () => {
  expect(await target.damage()).toEqual([])
})
