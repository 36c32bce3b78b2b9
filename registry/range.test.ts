import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseContentRange, parseRange } from './range.ts'

const refused = (action: () => unknown) =>
  expect(action).toThrow(expect.objectContaining({ code: 'RANGE_INVALID' }))

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
      refused(() => parseRange(header, 5000))
    }
    refused(() => parseRange('bytes=0-', 0))
  })

  it('never answers bytes that are not there', () => {
    fc.assert(
      fc.property(fc.string(), fc.nat(), (text, size) => {
        try {
          const range = parseRange(`bytes=${text}`, size)
          if (!range) return
          expect(range.start).toBeGreaterThanOrEqual(0)
          expect(range.start).toBeLessThan(range.end)
          expect(range.end).toBeLessThanOrEqual(size)
        } catch (error) {
          expect(error).toMatchObject({ code: 'RANGE_INVALID' })
        }
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
      refused(() => parseContentRange(text))
    }
  })
})
