import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { refusalOf } from '../test/fixtures/refusal.ts'
import {
  formatImageReference,
  formatReference,
  parseImageReference,
  parseName,
  parseReference,
  parseTag,
} from './reference.ts'

const digest = `sha256:${'0123456789abcdef'.repeat(4)}`
const refusal = (code: string): unknown => expect.objectContaining({ code })

test.each([
  'a',
  '0',
  'debian',
  'team/debian',
  'a/b/c/d/e',
  'a.b',
  'a_b',
  'a__b',
  'a-b',
  'a---b',
  'a.b_c__d--e/f-0',
  'a'.repeat(255),
  `${'a/'.repeat(127)}a`,
])('%j is a repository name', (text) => {
  expect(parseName(text)).toBe(text)
})

test.each([
  '',
  '/',
  'a/',
  '/a',
  'a//b',
  '.a',
  'a.',
  'a..b',
  '_a',
  'a_',
  'a___b',
  '-a',
  'a-',
  'a._b',
  'a-.b',
  'a b',
  'a\n',
  'a:b',
  'a@b',
  'é',
  '..',
  'a/../b',
  'a/./b',
  'a\u0000',
  'a%2fb',
  'a\\b',
  'a'.repeat(256),
])('%j is not a repository name', (text) => {
  expect(() => parseName(text)).toThrow(refusal('NAME_INVALID'))
})

test('a name in upper case is answered with the name to use', () => {
  expect(() => parseName('Team/Debian')).toThrow('use lower case: team/debian')
  expect(() => parseName('a b')).not.toThrow('lower case:')
})

test("the spec's grammar of names holds for any text", () => {
  // Written from the spec's text, not from its pattern: https://github.com/opencontainers/distribution-spec
  const isComponent = (part: string): boolean =>
    part !== '' &&
    part.split(/[a-z0-9]+/).every((gap, at, gaps) => {
      if (at === 0 || at === gaps.length - 1) return gap === ''
      return gap === '.' || gap === '_' || gap === '__' || /^-+$/.test(gap)
    })
  const text = fc.string({ unit: fc.constantFrom(...Array.from('ab0._-/A ')), maxLength: 12 })
  fc.assert(
    fc.property(text, (name) => {
      const valid = name.split('/').every(isComponent)
      expect(refusalOf(() => parseName(name))).toBe(valid ? undefined : 'NAME_INVALID')
    }),
    { numRuns: 2000 },
  )
})

test('a hostile name is refused without looking at it for long', () => {
  for (const unit of ['a-', 'a__', '-', 'a.', 'a/']) {
    expect(() => parseName(`${unit.repeat(100).slice(0, 254)}!`)).toThrow(refusal('NAME_INVALID'))
  }
  expect(() => parseName('a'.repeat(10_000_000))).toThrow(/^.{0,600}$/)
})

test.each(['a', 'A', '_', '0', 'v1.2-rc_3', 'A'.repeat(128), '__', 'a..'])(
  '%j is a tag',
  (text) => {
    expect(parseTag(text)).toBe(text)
  },
)

test.each(['', '.a', '-a', 'a b', 'a/b', 'a:b', 'a@b', 'é', 'a\n', 'A'.repeat(129), '../a', 'a+b'])(
  '%j is not a tag',
  (text) => {
    expect(() => parseTag(text)).toThrow(refusal('TAG_INVALID'))
  },
)

test('a reference is a tag, or a digest where it has a colon', () => {
  expect(parseReference('v1')).toEqual({ kind: 'tag', tag: 'v1' })
  expect(parseReference(digest)).toEqual({ kind: 'digest', digest })
  expect(() => parseReference('sha256:1')).toThrow(refusal('DIGEST_INVALID'))
  expect(() => parseReference('')).toThrow(refusal('TAG_INVALID'))
  expect(formatReference(parseReference(digest))).toBe(digest)
})

test.each([
  ['debian', 'debian', 'latest'],
  ['debian:12', 'debian', '12'],
  ['team/debian:12', 'team/debian', '12'],
])('%s means %s with tag %s', (text, name, tag) => {
  expect(parseImageReference(text)).toEqual({ name, reference: { kind: 'tag', tag } })
})

test('an image by digest', () => {
  const reference = { kind: 'digest', digest }
  expect(parseImageReference(`a/b@${digest}`)).toEqual({ name: 'a/b', reference })
})

test.each([
  ['', 'NAME_INVALID'],
  [':', 'NAME_INVALID'],
  ['a:', 'TAG_INVALID'],
  ['A:1', 'NAME_INVALID'],
  ['a@', 'DIGEST_INVALID'],
  [`@${digest}`, 'NAME_INVALID'],
  [`a:1@${digest}`, 'NAME_INVALID'],
  [`a@${digest}@${digest}`, 'DIGEST_INVALID'],
  ['localhost:5000/debian', 'TAG_INVALID'],
  ['localhost:5000/debian:12', 'NAME_INVALID'],
  [`a:${'x'.repeat(129)}`, 'TAG_INVALID'],
])('%s is refused with %s', (text, code) => {
  expect(() => parseImageReference(text)).toThrow(refusal(code))
})

test('what is formatted parses to the same again', () => {
  const name = fc.stringMatching(/^[a-z0-9]{1,8}(?:[._-][a-z0-9]{1,4}){0,2}(?:\/[a-z]{1,4}){0,2}$/)
  const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,20}$/)
  fc.assert(
    fc.property(name, fc.option(tag), (named, tagged) => {
      const text = tagged === null ? `${named}@${digest}` : `${named}:${tagged}`
      expect(formatImageReference(parseImageReference(text))).toBe(text)
    }),
  )
})
