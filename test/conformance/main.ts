import { parseArgs } from 'node:util'
import { endpoints, type Level, type Outcome } from './check.ts'
import { createSend } from './client.ts'
import { byEndpoint, countsOf, runSuite, type Result } from './suite.ts'

const usage = `usage: node test/conformance/main.ts <url of a registry> [--level 1.1|main] [--header 'Name: value']…
Walks the OCI distribution spec over the registry, in repositories below conformance/.
Ends with 0 where nothing failed; what a registry may leave out counts as unsupported.`

const levels: readonly Level[] = ['1.1', 'main']
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    level: { type: 'string', default: 'main' },
    header: { type: 'string', multiple: true, default: [] },
  },
})
const level = levels.find((known) => known === values.level)
const [url, ...more] = positionals
if (url === undefined || !URL.canParse(url) || more.length > 0 || level === undefined) {
  console.error(usage)
  process.exitCode = 2
} else {
  const results = await runSuite(createSend(url, headersOf(values.header)), level)
  print(results, 'unsupported')
  print(results, 'failed')
  printTable(results)
  if (countsOf(results).failed > 0) process.exitCode = 1
}

function headersOf(lines: readonly string[]): Record<string, string> {
  const pairs = lines.map((line) => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon), line.slice(colon + 1).trim()]
  })
  return Object.fromEntries(pairs)
}

function print(results: readonly Result[], kind: Exclude<Outcome['kind'], 'passed'>): void {
  for (const { check, outcome } of results) {
    if (outcome.kind !== kind) continue
    console.log(`${kind}: ${check.endpoint} ${check.title}: ${outcome.reason}`)
  }
}

function printTable(results: readonly Result[]): void {
  console.log('\npassed  failed  unsupported')
  const line = (counts: ReturnType<typeof countsOf>, what: string): void => {
    const { passed, failed, unsupported } = counts
    const cells = [String(passed).padStart(6), String(failed).padStart(6)]
    console.log(`${cells.join('  ')}  ${String(unsupported).padStart(11)}  ${what}`)
  }
  for (const [endpoint, own] of byEndpoint(results)) {
    line(countsOf(own), `${endpoint.padEnd(11)}${endpoints[endpoint]}`)
  }
  line(countsOf(results), `all, level ${level}`)
}
