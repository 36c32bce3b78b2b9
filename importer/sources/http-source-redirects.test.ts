import { describe, expect, test } from 'vitest'
import { fetchSource, sourceFailure } from '../../test/fixtures/fetched-source.ts'
import { startWebServer, withStatus, type Answer } from '../../test/fixtures/web-server.ts'

const body = Buffer.from('the image')
const whole: Answer = (_request, response) => void response.end(body)

const { signal } = new AbortController()

const fetchAll = (url: string) => fetchSource(url, signal)
const failure = (url: string) => sourceFailure(url, signal)

describe('redirects', () => {
  const chain: Answer = (request, response) => {
    const left = Number(request.url?.slice(1))
    if (left === 0) response.end(body)
    else response.writeHead(302, { location: `/${left - 1}` }).end()
  }

  test('ten are followed', async () => {
    await using web = await startWebServer(chain)
    expect((await fetchAll(`${web.origin}/10`)).equals(body)).toBe(true)
  })

  test('eleven are too many', async () => {
    await using web = await startWebServer(chain)
    expect(await failure(`${web.origin}/11`)).toMatchObject({ code: 'SOURCE_INVALID' })
    expect(web.requests).toHaveLength(11)
  })

  test.each([301, 302, 303, 307, 308])('%d is followed', async (code) => {
    await using web = await startWebServer((request, response, count) => {
      if (count === 1) withStatus(code, { location: 'b?c' })(request, response, count)
      else response.end(request.url)
    })
    expect((await fetchAll(`${web.origin}/a/x`)).toString()).toBe('/a/b?c')
  })

  test.each(['http://[', 'http://a:99999/', 'file:///etc/passwd', 'ftp://a/b'])(
    'to %j is refused',
    async (location) => {
      await using web = await startWebServer(withStatus(302, { location }))
      expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_INVALID' })
      expect(web.requests).toHaveLength(1)
    },
  )

  test('without a place to go is refused', async () => {
    await using web = await startWebServer(withStatus(302))
    expect(await failure(web.origin)).toMatchObject({ code: 'SOURCE_INVALID' })
  })

  test('user info goes to its own origin only, and never comes back', async () => {
    await using other = await startWebServer((request, response) => {
      response.writeHead(302, { location: `${web.origin}/back` }).end(request.url)
    })
    await using web = await startWebServer((request, response) => {
      if (request.url === '/a') response.writeHead(302, { location: '/b' }).end()
      else if (request.url === '/b') response.writeHead(302, { location: other.origin }).end()
      else response.end(body)
    })
    await fetchAll(`${web.origin.replace('//', '//m%C3%A9:p%40:ss@')}/a`)
    const basic = `Basic ${Buffer.from('mé:p@:ss').toString('base64')}`
    expect(web.requests.map(({ headers }) => headers.authorization)).toEqual([
      basic,
      basic,
      undefined,
    ])
    expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined])
  })

  test('user info that is not percent-encoded right is refused', async () => {
    await using web = await startWebServer(whole)
    const url = web.origin.replace('//', '//me:100%zz@')
    expect(await failure(url)).toMatchObject({ code: 'SOURCE_INVALID' })
  })
})
