/** One way of `WWW-Authenticate`; scheme and parameter names in lower case. */
export interface Challenge {
  readonly scheme: string
  readonly parameters: Readonly<Record<string, string>>
}

/** A right on one thing, as tokens name it: `repository:team-a/disk:pull,push`. */
export interface Scope {
  readonly type: string
  readonly name: string
  readonly actions: readonly string[]
}

const scheme = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]+|(?=,|$))/y
const parameter = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",=]+))/y
const token68 = /[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y
const separators = /[ \t,]*/y

/**
 * The challenges of a `WWW-Authenticate` header, several headers joined with commas. What does not
 * parse ends the list: a server may send anything. @see RFC 9110 §11.6.1
 */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = []
  let at = 0
  const take = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = at
    const match = pattern.exec(header)
    if (match) at = pattern.lastIndex
    return match ?? undefined
  }
  for (;;) {
    take(separators)
    if (at >= header.length) return challenges
    const found = take(parameter)
    const current = challenges.at(-1)
    if (found) {
      if (!current) return challenges
      const [, name = '', quoted, plain = ''] = found
      current.parameters[name.toLowerCase()] = quoted?.replaceAll(/\\(.)/g, '$1') ?? plain
      continue
    }
    const next = take(scheme)
    if (!next) return challenges
    challenges.push({ scheme: (next[1] ?? '').toLowerCase(), parameters: Object.create(null) })
    // Only schemes that are none of ours carry one, and a parameter looks like its beginning.
    parameter.lastIndex = at
    if (!parameter.test(header)) take(token68)
  }
}

/** One challenge as a header value; `scheme` is written as given. */
export function formatChallenge({ scheme, parameters }: Challenge): string {
  const written = Object.entries(parameters).map(
    ([name, value]) => `${name}="${value.replaceAll(/["\\]/g, String.raw`\$&`)}"`,
  )
  return `${scheme} ${written.join(',')}`
}

/** The scopes of a `scope` parameter, separated by spaces; what is not a scope is left out. */
export function parseScopes(text: string): Scope[] {
  return text.split(/\s+/).flatMap((one) => {
    const [, type, name, actions] = /^([a-z0-9]+)(?:\([a-z0-9]+\))?:(.+):([^:]*)$/.exec(one) ?? []
    if (type === undefined || name === undefined || actions === undefined) return []
    return [{ type, name, actions: actions.split(',').filter((action) => action !== '') }]
  })
}

export function formatScope({ type, name, actions }: Scope): string {
  return `${type}:${name}:${actions.join(',')}`
}
