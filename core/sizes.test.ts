import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { refusalOf } from '../test/fixtures/refusal.ts'
import { formatDuration, formatSize, parseDuration, parseSize } from './sizes.ts'

test.each([
  ['0', 0],
  ['4096', 4096],
  ['4096B', 4096],
  ['1K', 1000],
  ['1k', 1000],
  ['1Ki', 1024],
  ['1KiB', 1024],
  ['10Gi', 10 * 1024 ** 3],
  ['10 GiB', 10 * 1024 ** 3],
  [' 512M ', 512_000_000],
  ['1.5Ki', 1536],
  ['16Ti', 16 * 1024 ** 4],
  ['7Pi', 7 * 1024 ** 5],
])('%j is %d bytes', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes)
})

test.each([
  '',
  ' ',
  'Gi',
  '-1',
  '+1',
  '1,5G',
  '1e3',
  '0x10',
  '.5',
  '1.',
  '1 2',
  '1X',
  '1iB',
  'NaN',
])('%j is not a size', (text) => {
  expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }))
})

test.each(['9Pi', '9007199254740992', '9'.repeat(400)])('%s is too large', (text) => {
  expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: 'SIZE_EXCEEDED' }))
})

test('any text is a safe number of bytes or refused', () => {
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: fc.constantFrom(...Array.from('0123456789. KMGTPiB')), maxLength: 8 }),
  )
  fc.assert(
    fc.property(text, (size) => {
      const bytes = { value: 0 }
      const refusal = refusalOf(() => (bytes.value = parseSize(size)))
      expect([undefined, 'REQUEST_INVALID', 'SIZE_EXCEEDED']).toContain(refusal)
      expect(Number.isSafeInteger(bytes.value)).toBe(true)
    }),
  )
})

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1.00 KiB'],
  [10 * 1024, '10.0 KiB'],
  [1_500_000, '1.43 MiB'],
  [1024 ** 5, '1.00 PiB'],
  [5000 * 1024 ** 5, '5000.0 PiB'],
])('%d bytes read %s', (bytes, text) => {
  expect(formatSize(bytes)).toBe(text)
})

test.each([
  [0, '0.0s'],
  [4200, '4.2s'],
  [60_000, '1m00s'],
  [190_000, '3m10s'],
  [3_599_900, '1h00m'],
  [3_720_000, '1h02m'],
  [100 * 3_600_000, '100h00m'],
])('%d ms read %s', (ms, text) => {
  expect(formatDuration(ms)).toBe(text)
})

test.each([
  ['0', 0],
  ['0s', 0],
  ['500ms', 500],
  ['1.5s', 1500],
  ['10m', 600_000],
  ['1h30m', 5_400_000],
  ['30d', 2_592_000_000],
])('%j is a duration', (text, ms) => {
  expect(parseDuration(text)).toBe(ms)
})

test.each(['', '10', '10 m', 'm', '10x', '-1m', '1m and', '1e3s', '9'.repeat(20) + 'd'])(
  '%j is no duration',
  (text) => {
    expect(refusalOf(() => parseDuration(text))).toBe('REQUEST_INVALID')
  },
)
