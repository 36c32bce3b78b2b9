import { describe, expect, it } from 'vitest'
import type { Action } from '../../core/access.ts'
import { anonymous, type Identity } from './identity.ts'
import { createRules, type Rule } from './rules.ts'

const user = (name: string, groups: string[] = []): Identity => ({ kind: 'user', name, groups })
const robot = (name: string): Identity => ({ kind: 'robot', name, groups: [] })
const account = (name: string): Identity => ({ kind: 'serviceaccount', name, groups: [] })

function rulesOf(rules: readonly Rule[], groups: Record<string, readonly string[]> = {}) {
  return createRules({ rules, groups, otherWho: [] })
}

/** Who of `identities` may do that. */
function allowed(rule: Partial<Rule>, identities: readonly Identity[], groups = {}) {
  const full: Rule = { who: ['any'], repositories: ['a'], actions: ['pull'], ...rule }
  const rules = rulesOf([full], groups)
  return identities.filter((one) => rules.allows(one, 'pull', 'a')).map(({ name }) => name)
}

/** Which of `names` a pattern covers. */
function covered(pattern: string, names: readonly string[]): string[] {
  const rules = rulesOf([{ who: ['any'], repositories: [pattern], actions: ['pull'] }])
  return names.filter((name) => rules.allows(anonymous, 'pull', name))
}

describe('rules', () => {
  it('allow nothing where there are none', () => {
    const rules = rulesOf([])
    expect(rules.allows(user('alice'), 'pull', 'a')).toBe(false)
    expect(rules.allowsSome(user('alice'), 'pull')).toBe(false)
    expect(rules.isAdmin(user('alice'))).toBe(false)
  })

  it('tell kinds of callers with the same name apart', () => {
    const all = [user('ci'), robot('ci'), account('ns/ci'), anonymous]
    expect(allowed({ who: ['robot:ci'] }, all)).toEqual(['ci'])
    expect(allowed({ who: ['serviceaccount:ns/*'] }, all)).toEqual(['ns/ci'])
    expect(allowed({ who: ['serviceaccount:*'] }, all)).toEqual([])
    expect(allowed({ who: ['anonymous'] }, all)).toEqual(['anonymous'])
    expect(allowed({ who: ['authenticated'] }, all)).toEqual(['ci', 'ci', 'ns/ci'])
    expect(allowed({ who: ['any'] }, all)).toHaveLength(4)
  })

  it('know groups of ours and of the provider', () => {
    const all = [user('alice'), user('bob', ['devs']), robot('ci'), user('carol', ['ops'])]
    const groups = { devs: ['user:alice', 'robot:*'] }
    expect(allowed({ who: ['group:devs'] }, all, groups)).toEqual(['alice', 'bob', 'ci'])
    expect(allowed({ who: ['group:o*'] }, all, groups)).toEqual(['carol'])
  })

  it('take names of callers as they are, whatever stands in them', () => {
    const odd = [user('a.b'), user('axb'), user('a|b'), user('(ab)'), user('a\nb')]
    expect(allowed({ who: ['user:a.b'] }, odd)).toEqual(['a.b'])
    expect(allowed({ who: ['user:a|b'] }, odd)).toEqual(['a|b'])
    expect(allowed({ who: ['user:(ab)'] }, odd)).toEqual(['(ab)'])
    expect(allowed({ who: ['user:[ab]*'] }, odd)).toEqual([])
    expect(
      allowed({ who: ['group:devs'] }, [user('x', ['user:devs']), user('group:devs')]),
    ).toEqual([])
  })

  it('cover repositories by glob', () => {
    const names = ['team-a', 'team-a/x', 'team-a/x/y', 'team-b/x', 'team-a-private/x']
    expect(covered('team-a/*', names)).toEqual(['team-a/x'])
    expect(covered('team-a/**', names)).toEqual(['team-a', 'team-a/x', 'team-a/x/y'])
    expect(covered('team-a', names)).toEqual(['team-a'])
    expect(covered('team-?/x', names)).toEqual(['team-a/x', 'team-b/x'])
    expect(covered('{team-a,team-b}/x', names)).toEqual(['team-a/x', 'team-b/x'])
    expect(covered('**', names)).toEqual(names)
    expect(covered('*', names)).toEqual(['team-a'])
  })

  it('allow the actions they name; admin is all of them', () => {
    const may = (actions: readonly Action[]) => {
      const rules = rulesOf([{ who: ['any'], repositories: ['a'], actions }])
      const all = ['pull', 'push', 'delete', 'admin'] as const
      return all.filter((action) => rules.allows(anonymous, action, 'a'))
    }
    expect(may(['pull'])).toEqual(['pull'])
    expect(may(['push', 'delete'])).toEqual(['push', 'delete'])
    expect(may(['admin'])).toEqual(['pull', 'push', 'delete', 'admin'])
  })

  it('make an administrator of the server only who has all repositories', () => {
    const admin = (repositories: string[]) =>
      rulesOf([{ who: ['any'], repositories, actions: ['admin'] }]).isAdmin(anonymous)
    expect(admin(['**'])).toBe(true)
    expect(admin(['team-a/**'])).toBe(false)
    expect(admin(['*'])).toBe(false)
  })

  it('keep of the groups of a provider only those that matter', () => {
    const rules = createRules({
      rules: [{ who: ['group:corp:d*'], repositories: ['a'], actions: ['pull'] }],
      groups: {},
      otherWho: ['group:ops'],
    })
    const many = user('alice', ['corp:devs', 'corp:all', 'ops', 'corp:ops'])
    expect(rules.withGroups(many).groups).toEqual(['corp:devs', 'ops'])
  })
})
