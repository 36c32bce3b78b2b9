/** Whose an import is, and when its last run began. */
export interface Turn {
  /** Repository that it goes to. */
  readonly name: string
  /** ISO 8601. */
  readonly startedAt?: string | undefined
}

/** The first segment of a repository's name: where one registry has several callers, theirs. */
const prefixOf = ({ name }: Turn): string => name.split('/', 1)[0] ?? name

/**
 * The one of `waiting`, oldest first, that is to run next: of the name prefix that runs least, then of
 * the one whose last start in `known` is longest ago, then the oldest. Who asks for a hundred imports
 * at once thus delays others by one. `undefined` where nothing waits.
 */
export function nextInTurn<T extends Turn>(
  waiting: readonly T[],
  running: Iterable<Turn>,
  known: Iterable<Turn>,
): T | undefined {
  const runs = new Map<string, number>()
  for (const one of running) runs.set(prefixOf(one), (runs.get(prefixOf(one)) ?? 0) + 1)
  const starts = new Map<string, string>()
  for (const one of known) {
    const { startedAt = '' } = one
    if (startedAt > (starts.get(prefixOf(one)) ?? '')) starts.set(prefixOf(one), startedAt)
  }
  let [next] = waiting
  const countOf = (one: Turn): number => runs.get(prefixOf(one)) ?? 0
  const startOf = (one: Turn): string => starts.get(prefixOf(one)) ?? ''
  for (const one of waiting) {
    if (next === undefined) break
    const fewer = countOf(one) - countOf(next)
    if (fewer < 0 || (fewer === 0 && startOf(one) < startOf(next))) next = one
  }
  return next
}
