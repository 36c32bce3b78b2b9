import { describe, expect, it } from 'vitest'
import { createIsImmutable, expiredTags, ruleFor } from './retention.ts'

const dayMs = 24 * 60 * 60 * 1000
const now = 1000 * dayMs
const tags = Array.from({ length: 6 }, (_, age) => ({ tag: `v${age}`, at: now - age * dayMs }))
const repositories = ['**']

describe('expiredTags', () => {
  it.each([
    ['nothing without a rule for tags', {}, []],
    ['all but the newest', { keepLast: 2 }, ['v2', 'v3', 'v4', 'v5']],
    ['those moved long ago', { keepDays: 3 }, ['v4', 'v5']],
    ['what neither rule keeps', { keepLast: 5, keepDays: 3 }, ['v5']],
    ['never what a pattern names', { keepLast: 0, keepTags: ['v[0-4]'] }, ['v5']],
    ['all that no pattern names', { keepTags: ['v3'] }, ['v0', 'v1', 'v2', 'v4', 'v5']],
  ])('expires %s', (_, rule, expected) => {
    const expired = expiredTags(tags, { repositories, ...rule }, now)
    expect(expired.map(({ tag }) => tag)).toEqual(expected)
  })
})

describe('ruleFor', () => {
  it('takes the first that matches', () => {
    const first = { repositories: ['team/*'], keepLast: 1 }
    const rules = [first, { repositories, keepLast: 9 }]
    expect(ruleFor(rules, 'team/a')).toBe(first)
    expect(ruleFor(rules, 'team/a/b')).toBe(rules[1])
    expect(ruleFor([first], 'other')).toBeUndefined()
  })
})

describe('createIsImmutable', () => {
  it('matches repository and tag', () => {
    const isImmutable = createIsImmutable([{ repositories: ['prod/**'], tags: ['v*'] }])
    expect(isImmutable('prod/disk', 'v1.2.3')).toBe(true)
    expect(isImmutable('prod/disk', 'latest')).toBe(false)
    expect(isImmutable('dev/disk', 'v1')).toBe(false)
  })
})
