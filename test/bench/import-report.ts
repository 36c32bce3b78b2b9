import type { DiskName } from '../fixtures/images.ts'
import type { BenchInput, InputResult, Round } from './import-bench.ts'
import type { Contestant, ImportRun } from './import-contestants.ts'
import { importRivals } from './import-rivals.ts'
import { describeMachine, median, table, verdict, versionOf, type Cells } from './report.ts'

const tools = ['qemu-img', 'skopeo', 'docker-registry', 'gzip', 'igzip', 'xz', 'zstd']

/** How much faster than `plain` each input is to be. */
const speedAims = {
  raw: undefined,
  'raw.gz': 1.5,
  'raw.zst': 1.5,
  'raw.multi-block.xz': 1.5,
  'raw.xz': 1.1,
  qcow2: 1,
  iso: undefined,
} as const satisfies Record<BenchInput, number | undefined>

/** Peak memory of the server with its children, by whether xz decodes on several threads. */
const rssAims = { usual: 250e6, multiThreadedXz: 400e6 }

/** Markdown: times, what else they cost, the aims, and the machine. */
export async function importReport(
  results: readonly InputResult[],
  { disk, rounds }: { readonly disk: DiskName; readonly rounds: number },
): Promise<string> {
  const machine = describeMachine(await Promise.all(tools.map((tool) => versionOf(tool))))
  return [
    `Disk \`${disk}\`, ${rounds} ${rounds === 1 ? 'round' : 'rounds'}, medians. ${machine}.`,
    timeTable(results),
    costTable(results),
    // The aims are for a disk of usual size: for a tiny one the start of the command is all.
    ...(disk === 'debian' ? [aimTable(results)] : []),
  ].join('\n\n')
}

function timeTable(results: readonly InputResult[]): string {
  const head = ['input', 'dvcr', 'plain', 'tuned', 'plain ÷ dvcr', 'tuned ÷ dvcr']
  const cpu = ['CPU dvcr', 'CPU plain', 'CPU tuned']
  const rows = results.map(({ input, rounds }) => [
    input,
    ...each(rounds, ({ wallMs }) => wallMs, seconds),
    `**${times(ratio(rounds, 'plain'))}**`,
    times(ratio(rounds, 'tuned')),
    ...each(rounds, ({ cpuMs }) => cpuMs, seconds),
  ])
  return table([...head, ...cpu], rows)
}

function costTable(results: readonly InputResult[]): string {
  const head = ['input', 'RSS dvcr serve', 'with the command', 'RSS plain', 'RSS tuned']
  const disk = ['scratch', 'stored'].flatMap((what) => {
    return ['dvcr', 'plain', 'tuned'].map((who) => `${what} ${who}`)
  })
  const rows = results.map(({ input, rounds }) => [
    input,
    megabytes(median(rounds.map(({ dvcr }) => dvcr.serverRssBytes))),
    ...each(rounds, ({ totalRssBytes }) => totalRssBytes, megabytes),
    ...each(rounds, ({ scratchBytes }) => scratchBytes, megabytes),
    ...each(rounds, ({ storedBytes }) => storedBytes, megabytes),
  ])
  return table([...head, ...disk], rows)
}

function aimTable(results: readonly InputResult[]): string {
  const speeds = results.flatMap(({ input, rounds }) => {
    const aim = speedAims[input]
    if (aim === undefined) return []
    const measured = ratio(rounds, 'plain')
    return [[`${input}: faster than plain`, times(aim), times(measured), verdict(measured >= aim)]]
  })
  const rivals = results.flatMap(({ input, rounds }) => {
    const rival = importRivals[input]
    if (!rival) return []
    const measured = median(
      rounds.map((round) => (round.rival?.wallMs ?? Number.NaN) / round.dvcr.wallMs),
    )
    const label = `${input}: as fast as ${rival.name}`
    return [[label, times(rival.aim), times(measured), verdict(measured >= rival.aim)]]
  })
  const isXz = ({ input }: InputResult): boolean => input === 'raw.multi-block.xz'
  const xz = results.filter(isXz)
  const others = results.filter((result) => !isXz(result))
  const rows = [
    ...speeds,
    ...rivals,
    ...rssRow('peak RSS, usual', rssAims.usual, others),
    ...rssRow('peak RSS, xz on several threads', rssAims.multiThreadedXz, xz),
  ]
  return table(['aim', 'wanted', 'measured', ''], rows)
}

/** The worst of all rounds: a bound is no median. */
function rssRow(label: string, aim: number, results: readonly InputResult[]): Cells[] {
  const peaks = results.flatMap(({ rounds }) => rounds.map(({ dvcr }) => dvcr.serverRssBytes))
  if (peaks.length === 0) return []
  const worst = Math.max(...peaks)
  return [[label, `< ${megabytes(aim)}`, megabytes(worst), verdict(worst < aim)]]
}

function each(
  rounds: readonly Round[],
  value: (run: ImportRun) => number,
  format: (value: number) => string,
): string[] {
  const all: readonly Contestant[] = ['dvcr', 'plain', 'tuned']
  return all.map((who) => format(median(rounds.map((round) => value(round[who])))))
}

/** How many times as long as ours: paired within a round, then the median. */
function ratio(rounds: readonly Round[], peer: 'plain' | 'tuned'): number {
  return median(rounds.map((round) => round[peer].wallMs / round.dvcr.wallMs))
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`
const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`
const times = (factor: number): string => `${factor.toFixed(2)}×`
