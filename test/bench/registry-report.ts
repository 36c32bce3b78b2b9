import { readlink } from 'node:fs/promises'
import type { S3Tool } from '../fixtures/bench-servers.ts'
import { goTool } from '../fixtures/go-tools.ts'
import type { RegistryRound, ScenarioResult } from './registry-bench.ts'
import { formatSize, type Gate, type Unit } from './registry-scenario.ts'
import { contestants, type Contestant } from './registry-sites.ts'
import { describeMachine, median, table, verdict, versionOf } from './report.ts'

const s3Names = { minio: 'MinIO', versitygw: 'versitygw' } as const satisfies Record<S3Tool, string>

/** Markdown: a table for each storage, and the machine. */
export async function registryReport(
  results: readonly ScenarioResult[],
  { size, s3Server }: { readonly size: number; readonly s3Server: S3Tool },
): Promise<string> {
  // Some builds of these two do not know their version; the links to them do.
  const pinned = (['distribution', s3Server] as const).map(async (tool) => {
    return `${tool} ${(await readlink(goTool(tool))).split('-v')[1]}`
  })
  const versions = await Promise.all([versionOf('docker-registry'), ...pinned])
  const said = `Large blob ${formatSize(size)}, medians. ${describeMachine(versions)}.`
  const parts = (['folder', 's3'] as const).flatMap((storage) => {
    const some = results.filter((result) => result.storage === storage)
    return some.length === 0
      ? []
      : [
          `### On ${storage === 'folder' ? 'a folder' : s3Names[s3Server]}`,
          storageTable(some, size),
        ]
  })
  return [said, ...parts].join('\n\n')
}

function storageTable(results: readonly ScenarioResult[], size: number): string {
  const head = ['', 'dvcr', 'distribution v3', 'docker-registry', 'dvcr ÷ v3', 'gate', '']
  const rows = results.flatMap(({ scenario, storage, rounds }) => [
    [
      `**${scenario.title(size, storage)}** (${countRounds(rounds.length)})`,
      '',
      '',
      '',
      '',
      '',
      '',
    ],
    ...Object.entries(scenario.metrics).map(([key, { label, unit, gates }]) => {
      const own = figure(rounds, 'dvcr', key, unit)
      const share = ratio(rounds, key)
      const gate = gates?.[storage]
      return [
        label,
        ...contestants.map((who) => {
          const takesPart = (scenario.contestants ?? contestants).includes(who)
          return takesPart ? format(figure(rounds, who, key, unit), unit) : ''
        }),
        share === undefined ? '' : `${share.toFixed(2)}×`,
        gate ? wanted(gate, unit) : '',
        gate ? verdict(isMet(gate, own, share)) : '',
      ]
    }),
  ])
  return table(head, rows)
}

const countRounds = (rounds: number): string => `${rounds} ${rounds === 1 ? 'round' : 'rounds'}`

/**
 * The median of the rounds in which it did not fail; ours may not fail in any. Of things that must
 * not be there the most of any round.
 */
function figure(
  rounds: readonly RegistryRound[],
  who: Contestant,
  key: string,
  unit: Unit,
): number | undefined {
  const values = rounds.flatMap((round) => round[who]?.[key] ?? [])
  const failed = rounds.some((round) => round[who] === undefined)
  if (values.length === 0 || (who === 'dvcr' && failed)) return undefined
  return unit === 'things' ? Math.max(...values) : median(values)
}

/** Ours to distribution's: paired within a round, then the median. */
function ratio(rounds: readonly RegistryRound[], key: string): number | undefined {
  const values = rounds.flatMap(({ dvcr, distribution }) => {
    const [own, peer] = [dvcr?.[key], distribution?.[key]]
    return own === undefined || peer === undefined || peer === 0 ? [] : [own / peer]
  })
  return values.length === 0 ? undefined : median(values)
}

function wanted(gate: Gate, unit: Unit): string {
  if ('shareOfPeer' in gate) return `≥ ${gate.shareOfPeer}× v3`
  return 'atMost' in gate ? `≤ ${format(gate.atMost, unit)}` : `≥ ${format(gate.atLeast, unit)}`
}

/** What could not be measured is missed. */
function isMet(gate: Gate, own = Number.NaN, share = Number.NaN): boolean {
  if ('shareOfPeer' in gate) return share >= gate.shareOfPeer
  return 'atMost' in gate ? own <= gate.atMost : own >= gate.atLeast
}

function format(value: number | undefined, unit: Unit): string {
  if (value === undefined) return 'fails'
  if (unit === 'things') return String(value)
  const digits = Math.abs(value) < 10 ? 2 : value < 100 ? 1 : 0
  return unit === '×' ? `${value.toFixed(2)}×` : `${value.toFixed(digits)} ${unit}`
}
