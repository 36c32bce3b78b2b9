import { describe, expect, it } from 'vitest'
import * as fc from 'fast-check'
import picomatch from 'picomatch'
import { createGlobMatcher } from './glob.ts'

function matched(pattern: string, names: readonly string[]): string[] {
  return names.filter(createGlobMatcher([pattern]))
}

describe('a glob', () => {
  it('matches within a segment, over segments, one letter, some letters, one of several', () => {
    const names = ['a', 'a/b', 'a/b/c', 'b', 'ab', 'a-b/c']
    expect(matched('*', names)).toEqual(['a', 'b', 'ab'])
    expect(matched('**', names)).toEqual(names)
    expect(matched('a/**', names)).toEqual(['a', 'a/b', 'a/b/c'])
    expect(matched('**/c', names)).toEqual(['a/b/c', 'a-b/c'])
    expect(matched('a/**/c', names)).toEqual(['a/b/c'])
    expect(matched('**/**/a', names)).toEqual(['a'])
    expect(matched('a*/?', names)).toEqual(['a/b', 'a-b/c'])
    expect(matched('[b-z]', names)).toEqual(['b'])
    expect(matched('[!b]', names)).toEqual(['a'])
    expect(matched('{a,b,a/{b,b/c}}', names)).toEqual(['a', 'a/b', 'a/b/c', 'b'])
    expect(matched(String.raw`\*`, ['*', 'a'])).toEqual(['*'])
    expect(matched('{a}', ['a', '{a}'])).toEqual(['{a}'])
  })

  it('means what it means to everybody else', () => {
    const piece = fc.constantFrom('a', 'b', '-', '*', '?', '[ab]', '[a-b]', '{a,b}', '{*a,b/a}')
    // `**` beside letters, or behind braces that end with `*`, picomatch takes in several ways.
    const segment = fc
      .array(piece, { minLength: 1, maxLength: 4 })
      .map((all) => all.join(''))
      .filter((text) => !text.includes('**'))
    const pattern = fc
      .array(fc.oneof(segment, fc.constant('**')), { minLength: 1, maxLength: 4 })
      .map((all) => all.join('/'))
    const word = fc
      .array(fc.constantFrom('a', 'b', '-'), { minLength: 1, maxLength: 5 })
      .map((all) => all.join(''))
    const name = fc.array(word, { minLength: 1, maxLength: 4 }).map((all) => all.join('/'))
    fc.assert(
      fc.property(pattern, fc.array(name, { minLength: 20, maxLength: 20 }), (glob, names) => {
        const theirs = picomatch(glob, { nonegate: true, noext: true })
        expect([glob, matched(glob, names)]).toEqual([glob, names.filter((one) => theirs(one))])
      }),
      { numRuns: 2000 },
    )
  })

  it('is no work without end, whatever the name', () => {
    // A regular expression of it takes minutes for the first and hours for the others.
    const many = 'a'.repeat(255)
    expect(matched('*a*a*a*a*a*a*x', [many])).toEqual([])
    expect(matched(`${'**/a/'.repeat(8)}x`, ['a/'.repeat(127)])).toEqual([])
    expect(matched('*-*-*-*-*-x', ['-'.repeat(60_000)])).toEqual([])
  })

  it('with too many alternatives is refused', () => {
    expect(() => createGlobMatcher(['{a,b}'.repeat(9)])).toThrow('more than 256 alternatives')
    expect(createGlobMatcher(['{a,b}'.repeat(8)])('abababab')).toBe(true)
  })
})
