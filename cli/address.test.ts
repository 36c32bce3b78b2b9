import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { isLoopback } from '../core/loopback.ts'
import { formatUrl, parseListen } from './address.ts'

test.each([
  ['127.0.0.1:5000', '127.0.0.1', 5000, 'http://127.0.0.1:5000'],
  ['localhost:0', 'localhost', 0, 'http://localhost:0'],
  ['0.0.0.0:65535', '0.0.0.0', 65_535, 'http://0.0.0.0:65535'],
  ['[::1]:80', '::1', 80, 'http://[::1]:80'],
  ['[::]:5000', '::', 5000, 'http://[::]:5000'],
  ['registry.example.org:443', 'registry.example.org', 443, 'http://registry.example.org:443'],
])('%s is an address', (text, host, port, url) => {
  expect(parseListen(text)).toEqual({ host, port })
  expect(formatUrl({ host, port })).toBe(url)
})

test.each([
  '',
  '5000',
  ':5000',
  '127.0.0.1',
  '127.0.0.1:',
  '127.0.0.1:65536',
  '127.0.0.1:-1',
  '127.0.0.1:5000 ',
  '::1:5000',
  '[::1]',
  '[localhost]:1',
  'http://127.0.0.1:5000',
  'a:1:2',
  'a:123456',
])('%j is not an address', (text) => {
  expect(() => parseListen(text)).toThrow(expect.objectContaining({ code: 'SETTING_INVALID' }))
})

test('only names and addresses of this machine are loopback', () => {
  const here = ['localhost', '127.0.0.1', '127.1.2.3', '::1']
  const elsewhere = [
    '0.0.0.0',
    '::',
    '10.0.0.1',
    '128.0.0.1',
    '1127.0.0.1',
    '127.0.0.1.example.org',
    'localhost.example.org',
    'xlocalhost',
    '::ffff:127.0.0.1',
    '',
  ]
  expect(here.filter(isLoopback)).toEqual(here)
  expect(elsewhere.filter(isLoopback)).toEqual([])
})

test('an address that was formatted is the same when it is read again', () => {
  const host = fc.oneof(
    fc.ipV4(),
    fc.ipV6().filter((ip) => !ip.includes('.')),
    fc.domain(),
  )
  fc.assert(
    fc.property(host, fc.integer({ min: 0, max: 65_535 }), (name, port) => {
      const text = formatUrl({ host: name, port }).replace('http://', '')
      expect(parseListen(text)).toEqual({ host: name, port })
    }),
  )
})
