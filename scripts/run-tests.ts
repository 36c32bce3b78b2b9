import { execa } from 'execa'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

interface Counts {
  readonly passed: number
  readonly failed: number
}

interface VitestReport {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly testResults: readonly {
    readonly status: string
    readonly assertionResults: readonly { readonly status: string }[]
  }[]
}

/** One command each; a clean run counts as one passed. */
const checks = [
  'tsc',
  'oxlint',
  'oxfmt --check .',
  'knip --no-progress',
  'node scripts/generate.ts --check',
]

const sets = new Map([
  ['check', { checks, projects: ['unit'] }],
  ['test', { checks, projects: ['unit', 'e2e'] }],
  ['root', { checks: [], projects: ['root'] }],
])

// run-tests.ts check|test|root: everything of that set, then `N passed, N failed` as last line.
const name = process.argv[2] ?? 'test'
const set = sets.get(name)
if (!set) throw new Error(`no such set of tests: ${name}`)
const parts: Counts[] = []
for (const command of set.checks) parts.push(await check(command))
parts.push(await vitest(set.projects))
const passed = parts.reduce((sum, part) => sum + part.passed, 0)
const failed = parts.reduce((sum, part) => sum + part.failed, 0)
process.exitCode = failed > 0 ? 1 : 0
console.log(`${passed} passed, ${failed} failed`)

async function check(command: string): Promise<Counts> {
  console.log(`> ${command}`)
  const [program = '', ...args] = command.split(' ')
  const { failed } = await run(program, args)
  if (failed) console.log(`FAILED: ${command}`)
  return failed ? { passed: 0, failed: 1 } : { passed: 1, failed: 0 }
}

async function vitest(projects: readonly string[]): Promise<Counts> {
  const folder = await mkdtemp(join(tmpdir(), 'dvcr-run-tests-'))
  const file = join(folder, 'report.json')
  try {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`]
    const chosen = projects.flatMap((project) => ['--project', project])
    const { failed } = await run('vitest', ['run', ...reporters, ...chosen])
    const report = await readFile(file, 'utf8').catch(() => undefined)
    return countTests(report === undefined ? undefined : JSON.parse(report), failed)
  } finally {
    await rm(folder, { recursive: true })
  }
}

/**
 * A file that could not even be loaded has no failed test but is one failure, and so is a run
 * that failed for any other reason, ran nothing, or left no report.
 */
function countTests(report: VitestReport | undefined, runFailed: boolean): Counts {
  if (!report) return { passed: 0, failed: 1 }
  const brokenFiles = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
  )
  const passed = report.numPassedTests
  const failed = report.numFailedTests + brokenFiles.length
  const unexplained = failed === 0 && (runFailed || passed === 0)
  return { passed, failed: unexplained ? 1 : failed }
}

function run(program: string, args: readonly string[]) {
  const options = { reject: false, stdin: 'ignore', stdout: 'inherit', stderr: 'inherit' } as const
  return execa(program, args, { ...options, preferLocal: true })
}
