import { Command, InvalidArgumentError, Option } from 'commander'
import { benchImports, benchInputs, type BenchInput, type InputResult } from './import-bench.ts'
import { importReport, writeImportReport } from './import-report.ts'

interface ImportFlags {
  readonly rounds: number
  readonly inputs: readonly BenchInput[]
  readonly disk: 'debian' | 'boot-sector'
  readonly json?: boolean
  readonly write?: boolean
}

const stopping = new AbortController()
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(name, () => stopping.abort())
}

const bench = new Command('bench').description('Compare dvcr with other ways to the same result')
bench
  .command('import')
  .description('Import over HTTP, against curl | decompressor, qemu-img, tar and skopeo')
  .option('--rounds <n>', 'imports of each input by each contestant', parseRounds, 3)
  .option('--inputs <list>', `some of ${benchInputs.join(',')}`, parseInputs, [...benchInputs])
  .addOption(
    new Option('--disk <name>', 'disk to import')
      .choices(['debian', 'boot-sector'])
      .default('debian'),
  )
  .option('--json', 'print every measurement as JSON')
  .option('--write', 'put the tables into docs/benchmarks.md')
  .action(benchImport)
await bench.parseAsync(process.argv)

async function benchImport({ json, write, ...options }: ImportFlags): Promise<void> {
  const results: InputResult[] = []
  const log = (line: string): void => console.error(line)
  for await (const result of benchImports({ ...options, signal: stopping.signal, log })) {
    results.push(result)
  }
  const report = await importReport(results, options)
  console.log(json ? JSON.stringify({ ...options, results }, undefined, 2) : report)
  if (write) await writeImportReport(report)
}

function parseRounds(text: string): number {
  const rounds = Number(text)
  if (!Number.isSafeInteger(rounds) || rounds < 1) throw new InvalidArgumentError('1 or more')
  return rounds
}

function parseInputs(text: string): BenchInput[] {
  return text.split(',').map((name) => {
    const input = benchInputs.find((known) => known === name)
    if (!input) throw new InvalidArgumentError(`${name} is none of ${benchInputs.join(', ')}`)
    return input
  })
}
