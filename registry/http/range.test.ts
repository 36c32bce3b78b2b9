import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ByteRange } from '../../core/registry.ts'
import { parseContentRange, parseRange } from './range.ts'

/** The code it throws; `undefined` where it does not. */
function refusal(action: () => unknown): unknown {
  try {
    action()
    return undefined
  } catch (error) {
    return Object(error).code
  }
}

describe('parseRange', () => {
  it('reads the three forms, as half-open ranges within the size', () => {
    expect(parseRange('bytes=500-1499', 5000)).toEqual({ start: 500, end: 1500 })
    expect(parseRange('bytes=500-', 5000)).toEqual({ start: 500, end: 5000 })
    expect(parseRange('bytes=-500', 5000)).toEqual({ start: 4500, end: 5000 })
    expect(parseRange('bytes=2000-9000', 5000)).toEqual({ start: 2000, end: 5000 })
    expect(parseRange('bytes=-9000', 5000)).toEqual({ start: 0, end: 5000 })
  })

  it('means everything for what it does not understand', () => {
    for (const header of [undefined, '', 'bytes=', 'bytes=-', 'lines=1-2', 'bytes=1-2,4-5']) {
      expect(parseRange(header, 5000)).toBeUndefined()
    }
  })

  it('refuses a range without any bytes', () => {
    for (const header of ['bytes=500-0', 'bytes=5000-10000', 'bytes=5000-', 'bytes=-0']) {
      expect(refusal(() => parseRange(header, 5000))).toBe('RANGE_INVALID')
    }
    expect(refusal(() => parseRange('bytes=0-', 0))).toBe('RANGE_INVALID')
  })

  it('never answers bytes that are not there', () => {
    fc.assert(
      fc.property(fc.string(), fc.nat(), (text, size) => {
        let range: ByteRange | undefined
        const code = refusal(() => (range = parseRange(`bytes=${text}`, size)))
        const { start, end } = range ?? { start: 0, end: Math.max(1, size) }
        expect([undefined, 'RANGE_INVALID']).toContain(code)
        expect(start >= 0 && start < end && end <= Math.max(1, size)).toBe(true)
      }),
    )
  })

  it('answers exactly the bytes asked for', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.nat(), (start, length, more) => {
        const last = start + length
        const range = parseRange(`bytes=${start}-${last}`, last + 1 + more)
        expect(range).toEqual({ start, end: last + 1 })
      }),
    )
  })
})

describe('parseContentRange', () => {
  it('reads what it is given, as a half-open range', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), (start, length) => {
        const expected = { start, end: start + length + 1 }
        expect(parseContentRange(`${start}-${start + length}`)).toEqual(expected)
        expect(parseContentRange(`bytes ${start}-${start + length}/*`)).toEqual(expected)
      }),
    )
  })

  it('refuses anything else', () => {
    for (const text of ['', '5', '5-', '-5', '9-5', 'a-b', '1-2-3', '1e3-2e3', ' 1-2', '0x1-2']) {
      expect([text, refusal(() => parseContentRange(text))]).toEqual([text, 'RANGE_INVALID'])
    }
  })
})
