import type { Action } from '../../core/access.ts'
import { createGlobMatcher } from '../../core/glob.ts'
import { callerOf, type Identity } from './identity.ts'

export interface Rule {
  /** `kind:name` with `*`, `group:name` with `*`, `anonymous`, `authenticated`, `any`. */
  readonly who: readonly string[]
  /** @see createGlobMatcher */
  readonly repositories: readonly string[]
  readonly actions: readonly Action[]
}

export interface AccessRules {
  allows(identity: Identity, action: Action, repository: string): boolean
  /** True where a rule allows the action on some repository. */
  allowsSome(identity: Identity, action: Action): boolean
  /** Rights on the server itself: `admin` on all repositories (`**`). */
  isAdmin(identity: Identity): boolean
  /** Whether one of `who` means the caller. */
  matches(identity: Identity, who: readonly string[]): boolean
  /** The identity without the groups that no rule mentions: some issuers name hundreds. */
  withGroups(identity: Identity): Identity
}

export interface RuleOptions {
  readonly rules: readonly Rule[]
  /** Groups of ours, by name: `kind:name` with `*`. */
  readonly groups: Readonly<Record<string, readonly string[]>>
  /** Lists of `who` beside those of the rules. */
  readonly otherWho: readonly string[]
}

/** No repository has a longer name, but strangers ask about names of any length. */
const longestName = 255

interface Compiled extends Rule {
  readonly covers: (repository: string) => boolean
}

/** What the rules allow; nothing where none does. */
export function createRules({ rules, groups, otherWho }: RuleOptions): AccessRules {
  const compiled: Compiled[] = rules.map((rule) => {
    const matches = createGlobMatcher(rule.repositories)
    return { ...rule, covers: (name) => name.length <= longestName && matches(name) }
  })
  const mentioned = [...rules.flatMap(({ who }) => who), ...otherWho]
  const groupPatterns = mentioned.filter((one) => one.startsWith('group:')).map(patternOf)
  const memberships = Object.entries(groups).map(([name, members]) => ({
    group: `group:${name}`,
    members: members.map(patternOf),
  }))
  const patterns = new Map<string, RegExp>(mentioned.map((one) => [one, patternOf(one)]))
  /** An identity is asked about many times, and made anew rarely. */
  const ruled = new WeakMap<Identity, readonly Compiled[]>()

  function namesOf(identity: Identity): string[] {
    const caller = callerOf(identity)
    if (identity.kind === 'anonymous') return [caller]
    const ours = memberships.filter(({ members }) => members.some((member) => member.test(caller)))
    return [
      caller,
      ...identity.groups.map((group) => `group:${group}`),
      ...ours.map(({ group }) => group),
    ]
  }

  function matches(identity: Identity, who: readonly string[]): boolean {
    const names = namesOf(identity)
    return who.some((one) => {
      if (one === 'any') return true
      if (one === 'authenticated') return identity.kind !== 'anonymous'
      const pattern = patterns.get(one) ?? patternOf(one)
      return names.some((name) => pattern.test(name))
    })
  }

  function rulesOf(identity: Identity): readonly Compiled[] {
    let found = ruled.get(identity)
    if (!found) {
      found = compiled.filter(({ who }) => matches(identity, who))
      ruled.set(identity, found)
    }
    return found
  }

  const includes = ({ actions }: Rule, action: Action): boolean =>
    actions.includes(action) || actions.includes('admin')

  return {
    allows: (identity, action, repository) =>
      rulesOf(identity).some((rule) => includes(rule, action) && rule.covers(repository)),
    allowsSome: (identity, action) => rulesOf(identity).some((rule) => includes(rule, action)),
    isAdmin: (identity) =>
      rulesOf(identity).some(
        ({ actions, repositories }) => actions.includes('admin') && repositories.includes('**'),
      ),
    matches,
    withGroups(identity) {
      const groups = identity.groups.filter((group) =>
        groupPatterns.some((pattern) => pattern.test(`group:${group}`)),
      )
      return groups.length === identity.groups.length ? identity : { ...identity, groups }
    },
  }
}

/** Only `*` means something, and nothing of another provider's names does. */
function patternOf(who: string): RegExp {
  const pieces = who
    .split('*')
    .map((piece) => piece.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`))
  return new RegExp(`^${pieces.join('[^/]*')}$`, 's')
}
