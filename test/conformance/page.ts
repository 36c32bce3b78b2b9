import { endpoints } from './check.ts'
import { byEndpoint, countsOf, type Result } from './suite.ts'

export interface Tested {
  readonly ours: readonly Result[]
  readonly theirs: readonly Result[]
  /** As the page calls the other registry. */
  readonly theirName: string
}

/** `docs/conformance.md`: how to run the suite, and what it found. */
export function conformancePage({ ours, theirs, theirName }: Tested): string {
  const theirsByEndpoint = new Map(byEndpoint(theirs))
  const rows = byEndpoint(ours).map(([endpoint, own]) => {
    const counts = [own, theirsByEndpoint.get(endpoint) ?? []].flatMap(cells)
    return `| ${endpoint} | \`${endpoints[endpoint]}\` | ${counts.join(' | ')} |`
  })
  const totals = [ours, theirs].flatMap(cells)
  return `# Conformance

<!-- Made by test/conformance/conformance.test.ts: \`npx vitest run -u test/conformance\`; do not edit. -->

\`test/conformance/\` walks the OCI distribution spec endpoint by endpoint, at two levels: release 1.1,
and its main branch, which adds to it. It needs only the URL of a registry, and pushes into repositories
below \`conformance/\`:

    node test/conformance/main.ts http://127.0.0.1:5000 [--level 1.1|main] [--header 'Authorization: …']

It ends with a table as below and with 0 where nothing failed. *Unsupported* is what the spec lets a
registry leave out. Clients that are tested against this registry too: \`test/clients/\`.

| | | dvcr passed | failed | unsupported | ${theirName} passed | failed | unsupported |
|---|---|--:|--:|--:|--:|--:|--:|
${rows.join('\n')}
| | all, level main | ${totals.join(' | ')} |

## What ${theirName} fails

${list(theirs, 'failed')}

## What ${theirName} leaves out

${list(theirs, 'unsupported')}
`
}

const cells = (results: readonly Result[]): number[] => {
  const { passed, failed, unsupported } = countsOf(results)
  return [passed, failed, unsupported]
}

/** What came instead may be in another order each time: it stays away. */
function list(results: readonly Result[], kind: 'failed' | 'unsupported'): string {
  const lines = results.flatMap(({ check: { endpoint, title }, outcome }) =>
    outcome.kind === kind
      ? `- ${endpoint}: ${title} – ${outcome.reason.replace(/: was .*/, ' differ')}`
      : [],
  )
  return lines.join('\n')
}
