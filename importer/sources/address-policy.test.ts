import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { toCodedError } from '../../core/errors.ts'
import { startWebServer, withStatus } from '../../test/fixtures/web-server.ts'
import { parseAddressPolicy } from './address-policy.ts'
import { openHttpSource, webAddress } from './http-source.ts'

const forbidden: unknown = expect.objectContaining({ code: 'SOURCE_FORBIDDEN' })
const { signal } = new AbortController()

function isRefused(policy: string, host: string): boolean {
  try {
    parseAddressPolicy(policy).requireHost(host)
    return false
  } catch (error) {
    return toCodedError(error).code === 'SOURCE_FORBIDDEN'
  }
}

const metadata = ['169.254.169.254', '169.254.170.2', '100.100.100.200', '168.63.129.16']
const metadataInDisguise = [
  '[fd00:ec2::254]',
  '[fe80::a9fe:a9fe]',
  '[::ffff:a9fe:a9fe]',
  '[::ffff:169.254.169.254]',
  '[64:ff9b::a9fe:a9fe]',
]
const local = ['127.0.0.1', '10.1.2.3', '172.31.0.1', '192.168.1.1', '[::1]', '[fd12::1]']
const reserved = ['0.0.0.0', '100.64.0.1', '224.0.0.1', '255.255.255.255', '[::]', '[ff02::1]']
const disguised = ['[::ffff:7f00:1]', '[64:ff9b::a00:1]', '[2002:7f00:1::]', '[2001::1]']
const open = ['8.8.8.8', '169.253.255.255', '[2606:4700::1111]', '[64:ff9b::808:808]', 'debian.org']

describe('a policy for imports', () => {
  test.each([...metadata, ...metadataInDisguise])('never allows %s by itself', (host) => {
    expect(isRefused('open', host)).toBe(true)
    expect(isRefused('restricted', host)).toBe(true)
  })

  test.each([...local, ...reserved, ...disguised])('that is restricted refuses %s', (host) => {
    expect(isRefused('restricted', host)).toBe(true)
  })

  test.each(local)('that is open allows %s', (host) => {
    expect(isRefused('open', host)).toBe(false)
  })

  test.each(open)('allows %s', (host) => {
    expect(isRefused('open', host)).toBe(false)
    expect(isRefused('restricted', host)).toBe(false)
  })

  test('is changed by rules, and what one refuses stays refused', () => {
    const policy = 'restricted, +10.1.0.0/16, -10.1.2.0/24,+fd12::/16 ,-*.evil.example,-Bad.Example'
    expect(isRefused(policy, '10.1.3.1')).toBe(false)
    expect(isRefused(policy, '10.1.2.1')).toBe(true)
    expect(isRefused(policy, '10.2.0.1')).toBe(true)
    expect(isRefused(policy, '[::ffff:10.1.3.1]')).toBe(false)
    expect(isRefused(policy, '[fd12::1]')).toBe(false)
    expect(isRefused(policy, 'evil.example')).toBe(false)
    expect(isRefused(policy, 'deep.evil.example')).toBe(true)
    expect(isRefused(policy, 'BAD.example.')).toBe(true)
    expect(isRefused('open,+169.254.169.254', '169.254.169.254')).toBe(false)
    expect(isRefused('open,-0.0.0.0/0,+8.8.8.8', '8.8.8.8')).toBe(true)
  })

  test.each([
    '',
    'closed',
    'open,',
    'open,10.0.0.0/8',
    'open,+10.0.0.0/33',
    'open,+10.0.0.0/',
    'open,+10.0.0/8',
    'open,+10.1',
    'open,+::1/129',
    'open,+a..b',
    'open,+*',
    'open,+*.*.a',
    'open;+a',
  ])('is not %j', (text) => {
    expect(() => parseAddressPolicy(text)).toThrow(
      expect.objectContaining({ code: 'SETTING_INVALID' }),
    )
  })

  test('checks what a name resolves to, and answers only that', async () => {
    const resolve = promisify(parseAddressPolicy('open,-127.0.0.0/8,-::1').lookup)
    await expect(resolve('localhost', {})).rejects.toEqual(forbidden)
    await expect(resolve('localhost', { all: true })).rejects.toEqual(forbidden)
    const all = promisify(parseAddressPolicy('restricted,+127.0.0.0/8').lookup)
    expect(await all('localhost', { all: true })).toEqual([{ address: '127.0.0.1', family: 4 }])
    const named = promisify(parseAddressPolicy('restricted,+localhost').lookup)
    expect(['127.0.0.1', '::1']).toContain(await named('localhost', {}))
  })
})

describe('a source under a policy', () => {
  const options = { signal, retryDelaysMs: [60_000] }
  const localOnly = { ...options, policy: parseAddressPolicy('restricted,+127.0.0.1') }

  test('is refused before anything is sent, by address and by name', async () => {
    await using web = await startWebServer(withStatus(200))
    const { port } = new URL(web.origin)
    const policy = parseAddressPolicy('restricted')
    for (const host of ['127.0.0.1', 'localhost', '[::1]']) {
      const opening = openHttpSource([webAddress(`http://${host}:${port}/`)], {
        ...options,
        policy,
      })
      await expect(opening).rejects.toEqual(forbidden)
    }
    expect(web.requests).toHaveLength(0)
  })

  test('is refused where a redirect leads', async () => {
    await using web = await startWebServer((request, response) => {
      const location = `http://${request.url?.slice(1)}/latest/meta-data`
      response.writeHead(302, { location }).end()
    })
    for (const host of ['169.254.169.254', '10.0.0.1', '[::ffff:a9fe:a9fe]']) {
      const opening = openHttpSource([webAddress(`${web.origin}/${host}`)], localOnly)
      await expect(opening).rejects.toEqual(forbidden)
    }
  })

  test.each(['2130706433', '0x7f000001', '0177.0.0.1', '127.1', '[0:0:0:0:0:0:0:1]', '%31.2.3.4'])(
    'must name %s as everybody does',
    async (host) => {
      await using web = await startWebServer((_request, response) => {
        response.writeHead(302, { location: `http://${host}/` }).end()
      })
      const invalid: unknown = expect.objectContaining({ code: 'SOURCE_INVALID' })
      expect(() => webAddress(`http://${host}/`)).toThrow(invalid)
      await expect(openHttpSource([webAddress(web.origin)], options)).rejects.toEqual(invalid)
    },
  )
})
