import { describe, expect, it } from 'vitest'
import { parseProxies } from './proxies.ts'

const via = (env: Record<string, string>, url: string): string | undefined =>
  parseProxies(env).of(new URL(url))?.href

describe('proxies of the environment', () => {
  it('are chosen by scheme, the lower case name first', () => {
    const env = { HTTP_PROXY: 'http://upper:1', http_proxy: 'lower:2', HTTPS_PROXY: 'https://s:3' }
    expect(via(env, 'http://images.example/a')).toBe('http://lower:2/')
    expect(via(env, 'https://images.example/a')).toBe('https://s:3/')
    expect(via({ HTTP_PROXY: 'http://upper:1' }, 'https://images.example/a')).toBeUndefined()
    expect(via({}, 'http://images.example/a')).toBeUndefined()
  })

  it.each(['http://localhost/', 'http://127.0.0.1:80/', 'http://[::1]/'])(
    'are not asked for %s',
    (url) => {
      expect(via({ http_proxy: 'http://p:1' }, url)).toBeUndefined()
    },
  )

  it.each([
    ['*', 'http://a.example/'],
    ['b.example,a.example', 'http://a.example/'],
    ['a.example', 'http://x.a.example/'],
    ['.a.example', 'http://a.example./'],
    ['*.a.example', 'http://x.a.example/'],
    ['A.Example', 'http://a.example/'],
    ['a.example:80', 'http://a.example/'],
    ['a.example:8080', 'http://a.example:8080/'],
    ['10.0.0.0/8', 'http://10.1.2.3/'],
    ['10.1.2.3', 'http://10.1.2.3/'],
    ['fd00::/8 b', 'http://[fd00::1]/'],
    ['[fd00::1]:80', 'http://[fd00::1]/'],
  ])('are not asked where no_proxy is %s, for %s', (exceptions, url) => {
    expect(via({ http_proxy: 'http://p:1', no_proxy: exceptions }, url)).toBeUndefined()
  })

  it.each([
    ['a.example', 'http://ba.example/'],
    ['a.example:81', 'http://a.example/'],
    ['10.0.0.0/8', 'http://11.1.2.3/'],
    ['10.0.0.0/99', 'http://10.1.2.3/'],
    ['10.0.0.0/8', 'http://10.example/'],
  ])('are asked where no_proxy is %s, for %s', (exceptions, url) => {
    expect(via({ http_proxy: 'http://p:1', NO_PROXY: exceptions }, url)).toBe('http://p:1/')
  })

  it.each(['socks5://me:secret@p:1', 'http://', 'http://me:secret@:1'])(
    '%s is refused without being shown',
    (text) => {
      const parse = (): unknown => parseProxies({ https_proxy: text })
      expect(parse).toThrow(expect.objectContaining({ code: 'SETTING_INVALID' }))
      expect(parse).not.toThrow(/secret/)
    },
  )
})
