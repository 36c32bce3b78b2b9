import { z } from 'zod'
import { createGlobMatcher } from '../core/glob.ts'
import type { TagFacts } from './tags.ts'

const dayMs = 24 * 60 * 60 * 1000
const days = z.number().min(0)
const patterns = z.array(z.string().min(1)).min(1)

/**
 * What is kept in the repositories that match; the first rule that matches a repository counts. A
 * tag is kept where any of `keepLast`, `keepDays` and `keepTags` says so; with none of the three
 * all tags are kept.
 */
export const retentionRule = z.strictObject({
  repositories: patterns.describe('Globs of repository names.'),
  keepLast: z.int().min(0).optional().describe('The newest tags to keep.'),
  keepDays: days.optional().describe('Keep tags moved within so many days.'),
  keepTags: patterns.optional().describe('Globs of tags that are always kept.'),
  untaggedDays: days
    .optional()
    .describe('Remove manifests without a tag, index or subject so many days after their push.'),
})
export type RetentionRule = z.output<typeof retentionRule>

/** Tags that cannot be moved or deleted once they are there. */
export const immutableRule = z.strictObject({
  repositories: patterns.describe('Globs of repository names.'),
  tags: patterns.describe('Globs of tags.'),
})
export type ImmutableRule = z.output<typeof immutableRule>

/** The rule of a repository. */
export function ruleFor(
  rules: readonly RetentionRule[],
  repository: string,
): RetentionRule | undefined {
  return rules.find((rule) => createGlobMatcher(rule.repositories)(repository))
}

/** The tags that `rule` does not keep. */
export function expiredTags<T extends Pick<TagFacts, 'tag' | 'at'>>(
  tags: readonly T[],
  { keepLast, keepDays, keepTags }: RetentionRule,
  now: number,
): T[] {
  if (keepLast === undefined && keepDays === undefined && keepTags === undefined) return []
  const isNamed = createGlobMatcher(keepTags ?? [])
  const rest = tags.filter(({ tag }) => !isNamed(tag))
  const newestFirst = rest.sort((a, b) => b.at - a.at || (a.tag < b.tag ? -1 : 1))
  return newestFirst.filter(
    ({ at }, index) =>
      index >= (keepLast ?? 0) && (keepDays === undefined || at + keepDays * dayMs < now),
  )
}

/** Answers whether a tag of a repository may never be moved or deleted. */
export function createIsImmutable(
  rules: readonly ImmutableRule[],
): (repository: string, tag: string) => boolean {
  const matchers = rules.map(({ repositories, tags }) => ({
    repository: createGlobMatcher(repositories),
    tag: createGlobMatcher(tags),
  }))
  return (repository, tag) => matchers.some((rule) => rule.repository(repository) && rule.tag(tag))
}
