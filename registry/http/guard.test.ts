import { describe, expect, it } from 'vitest'
import { isLoopbackHost } from './guard.ts'

describe('isLoopbackHost', () => {
  it('knows the names and addresses of this machine, with any port', () => {
    const hosts = ['localhost', 'LOCALHOST:80', 'a.localhost:5000', '127.0.0.1', '127.9.9.9:1']
    for (const host of [...hosts, '[::1]', '[::1]:5000', 'localhost.:5000']) {
      expect([host, isLoopbackHost(host)]).toEqual([host, true])
    }
  })

  it('knows no others', () => {
    const hosts = [
      '',
      'example.com',
      '10.0.0.1',
      '0.0.0.0',
      'localhost.example',
      '127.0.0.1.nip.io',
    ]
    const odd = ['x@localhost', 'localhost/', 'notlocalhost', '[::]', '[::ffff:10.0.0.1]', 'a b']
    for (const host of [undefined, ...hosts, ...odd]) {
      expect([host, isLoopbackHost(host)]).toEqual([host, false])
    }
  })
})
