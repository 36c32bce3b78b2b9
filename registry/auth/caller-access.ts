import { actions, type Access, type Action } from '../../core/access.ts'
import { formatScope, type Scope } from '../../core/auth-challenge.ts'
import { CodedError } from '../../core/errors.ts'
import type { Caller } from './authenticate.ts'
import { callerOf, type Identity } from './identity.ts'
import type { AccessRules } from './rules.ts'

/** Rights that a request for the list of repositories needs; the list itself follows the rules. */
export const catalogScope: Scope = { type: 'registry', name: 'catalog', actions: ['*'] }

/** What clients ask for together: some push only where they may pull. */
const asked: Readonly<Record<Action, readonly string[]>> = {
  pull: ['pull'],
  push: ['pull', 'push'],
  delete: ['delete'],
  admin: ['admin'],
}

/** The scope that a token needs for `action`. */
export function scopeFor(action: Action, repository: string): Scope {
  return { type: 'repository', name: repository, actions: asked[action] }
}

/** What one caller may do: what the rules allow, within what their token is for. */
export function createCallerAccess(caller: Caller, rules: AccessRules): Access {
  const { identity, scopes } = caller
  const inScope = (action: Action, repository: string): boolean =>
    scopes === undefined || includes(scopes, 'repository', repository, action)
  return {
    caller: callerOf(identity),
    may: (action, repository) =>
      rules.allows(identity, action, repository) && inScope(action, repository),
    demand(action, repository) {
      const wanted = [scopeFor(action, repository)]
      if (!rules.allows(identity, action, repository)) {
        throw refusal(identity, `${action} on ${repository}`, wanted)
      }
      if (!inScope(action, repository)) throw insufficient(wanted)
    },
    demandSome(action) {
      if (!rules.allowsSome(identity, action)) throw refusal(identity, `${action} anything`, [])
    },
    mayFind: (repository) => rules.allows(identity, 'pull', repository),
  }
}

export function includes(
  scopes: readonly Scope[],
  type: string,
  name: string,
  action: string,
): boolean {
  return scopes.some(
    (scope) => scope.type === type && scope.name === name && scope.actions.includes(action),
  )
}

/** UNAUTHORIZED for a caller who could log in, DENIED for one who has. */
export function refusal(identity: Identity, what: string, wanted: readonly Scope[]): CodedError {
  const detail = wanted.length > 0 ? { detail: { scope: wanted.map(formatScope).join(' ') } } : {}
  return identity.kind === 'anonymous'
    ? new CodedError('UNAUTHORIZED', `${what} needs credentials`, detail)
    : new CodedError('DENIED', `${callerOf(identity)} has no right to ${what}`, detail)
}

/** UNAUTHORIZED for a token that is not for this; another one may be. */
export function insufficient(wanted: readonly Scope[]): CodedError {
  const scope = wanted.map(formatScope).join(' ')
  return new CodedError('UNAUTHORIZED', `the token is not for ${scope}; ask for one that is`, {
    detail: { scope, error: 'insufficient_scope' },
  })
}

/** Of the scopes asked for what the caller has; `*` asks for all there is. */
export function grant(
  identity: Identity,
  wanted: readonly Scope[],
  rules: AccessRules,
): readonly Scope[] {
  const granted = new Map<string, Scope>()
  for (const { type, name, actions: asked } of wanted) {
    const possible =
      type === 'repository'
        ? actions.filter((action) => rules.allows(identity, action, name))
        : type === catalogScope.type && name === catalogScope.name
          ? catalogScope.actions
          : []
    const key = `${type}:${name}`
    const known = granted.get(key)?.actions ?? []
    const all = possible.filter(
      (action) => asked.includes('*') || asked.includes(action) || known.includes(action),
    )
    if (all.length > 0) granted.set(key, { type, name, actions: all })
  }
  return [...granted.values()]
}
