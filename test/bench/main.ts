import { Command, InvalidArgumentError, Option } from 'commander'
import {
  benchDecoders,
  decodeInputs,
  type DecodeInput,
  type DecodeResult,
} from './decompress-bench.ts'
import { decompressReport } from './decompress-report.ts'
import { benchImports, benchInputs, type BenchInput, type InputResult } from './import-bench.ts'
import { parseSize } from '../../core/sizes.ts'
import { importReport } from './import-report.ts'
import { benchRegistries, scenarios, type Choice, type ScenarioResult } from './registry-bench.ts'
import { s3Tools, type S3Tool } from '../fixtures/bench-servers.ts'
import { mergeFigures } from './registry-figures.ts'
import { registryReport } from './registry-report.ts'
import { fullSize } from './registry-scenario.ts'
import { writeReport } from './report.ts'

interface ImportFlags {
  readonly rounds: number
  readonly inputs: readonly BenchInput[]
  readonly disk: 'debian' | 'boot-sector'
  readonly json?: boolean
  readonly write?: boolean
}

interface DecompressFlags {
  readonly rounds: number
  readonly inputs: readonly DecodeInput[]
  readonly size: number
  readonly json?: boolean
  readonly write?: boolean
}

interface RegistryFlags {
  readonly rounds?: number
  readonly s3Server: S3Tool
  readonly scenarios: readonly Choice[]
  readonly size: number
  readonly json?: boolean
  readonly write?: boolean
}

const everyScenario: readonly Choice[] = scenarios.flatMap((scenario) =>
  scenario.storages.map((storage) => ({ scenario, storage })),
)

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
bench
  .command('decompress')
  .description('Decode files of every format by every engine there is')
  .option('--rounds <n>', 'runs of each engine on each input', parseRounds, 3)
  .option(
    '--inputs <list>',
    `some of ${decodeInputs.map(({ name }) => name).join(',')}`,
    parseDecodeInputs,
    decodeInputs,
  )
  .option('--size <bytes>', "of a disk's data, decompressed", parseBlobSize, 512 * 1024 ** 2)
  .option('--json', 'print every measurement as JSON')
  .option('--write', 'put the table into docs/benchmarks.md')
  .action(benchDecompress)
bench
  .command('registry')
  .description('Push, pull and list, against the registries of the distribution project')
  .option(
    '--rounds <n>',
    'turns of each contestant in each scenario (default: 3, of gc 5)',
    parseRounds,
  )
  .addOption(
    new Option(
      '--scenarios <list>',
      `some of ${everyScenario.map(nameOf).join(',')}; without -folder or -s3 both`,
    )
      .argParser(parseScenarios)
      .default(everyScenario, 'all'),
  )
  .addOption(
    new Option('--s3-server <name>', 'what all store in, on S3').choices(s3Tools).default('minio'),
  )
  .option('--size <bytes>', 'the large blob; the rest shrinks with it', parseBlobSize, fullSize)
  .option('--json', 'print every measurement as JSON')
  .option('--write', 'put the tables into docs/benchmarks.md, beside those of other scenarios')
  .action(benchRegistry)
await bench.parseAsync(process.argv)

async function benchImport({ json, write, ...options }: ImportFlags): Promise<void> {
  const results: InputResult[] = []
  const log = (line: string): void => console.error(line)
  for await (const result of benchImports({ ...options, signal: stopping.signal, log })) {
    results.push(result)
  }
  const report = await importReport(results, options)
  console.log(json ? JSON.stringify({ ...options, results }, undefined, 2) : report)
  if (write) await writeReport('import', report)
}

async function benchDecompress({ json, write, ...options }: DecompressFlags): Promise<void> {
  const results: DecodeResult[] = []
  const log = (line: string): void => console.error(line)
  for await (const result of benchDecoders({ ...options, signal: stopping.signal, log })) {
    results.push(result)
  }
  const report = await decompressReport(results, options)
  console.log(json ? JSON.stringify({ ...options, results }, undefined, 2) : report)
  if (write) await writeReport('decompress', report)
}

async function benchRegistry({ json, write, ...options }: RegistryFlags): Promise<void> {
  const { scenarios: chosen } = options
  const results: ScenarioResult[] = []
  const log = (line: string): void => console.error(line)
  for await (const result of benchRegistries({
    ...options,
    chosen,
    signal: stopping.signal,
    log,
  })) {
    results.push(result)
  }
  const { size, s3Server } = options
  const rounds = Object.fromEntries(results.map((result) => [nameOf(result), [...result.rounds]]))
  const figures = { size, s3Server, rounds }
  const report = await registryReport(results, options)
  console.log(json ? JSON.stringify(figures, undefined, 2) : report)
  if (!write) return
  const all = await mergeFigures(figures)
  const known = everyScenario.flatMap((choice) => {
    const measured = all.rounds[nameOf(choice)]
    return measured ? [{ ...choice, rounds: measured }] : []
  })
  await writeReport('registry', await registryReport(known, options))
}

function nameOf({ scenario, storage }: Choice): string {
  return `${scenario.name}-${storage}`
}

function parseScenarios(text: string): Choice[] {
  return text.split(',').flatMap((name) => {
    const found = everyScenario.filter((choice) => {
      return name === choice.scenario.name || name === nameOf(choice)
    })
    if (found.length > 0) return found
    throw new InvalidArgumentError(`${name} is none of ${everyScenario.map(nameOf).join(', ')}`)
  })
}

function parseBlobSize(text: string): number {
  try {
    return parseSize(text)
  } catch {
    throw new InvalidArgumentError('a size such as 4Gi or 256Mi')
  }
}

function parseRounds(text: string): number {
  const rounds = Number(text)
  if (!Number.isSafeInteger(rounds) || rounds < 1) throw new InvalidArgumentError('1 or more')
  return rounds
}

function parseDecodeInputs(text: string): DecodeInput[] {
  return text.split(',').map((name) => {
    const input = decodeInputs.find((known) => known.name === name)
    const names = decodeInputs.map((known) => known.name)
    if (!input) throw new InvalidArgumentError(`${name} is none of ${names.join(', ')}`)
    return input
  })
}

function parseInputs(text: string): BenchInput[] {
  return text.split(',').map((name) => {
    const input = benchInputs.find((known) => known === name)
    if (!input) throw new InvalidArgumentError(`${name} is none of ${benchInputs.join(', ')}`)
    return input
  })
}
