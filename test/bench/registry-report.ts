import { readlink } from 'node:fs/promises'
import { goTool } from '../fixtures/go-tools.ts'
import type { RegistryRound, ScenarioResult } from './registry-bench.ts'
import { formatSize, type Gate, type Unit } from './registry-scenario.ts'
import { contestants, type Contestant, type Storage } from './registry-sites.ts'
import { describeMachine, median, table, verdict, versionOf } from './report.ts'

const storageNames = {
  folder: 'On a folder',
  s3: 'On the S3 server',
} as const satisfies Record<Storage, string>

/** Markdown: a table for each storage, and the machine. */
export async function registryReport(
  results: readonly ScenarioResult[],
  { size, rounds }: { readonly size: number; readonly rounds: number },
): Promise<string> {
  // Some builds of these two do not know their version; the links to them do.
  const pinned = (['distribution', 'versitygw'] as const).map(async (tool) => {
    return `${tool} ${(await readlink(goTool(tool))).split('-v')[1]}`
  })
  const versions = await Promise.all([versionOf('docker-registry'), ...pinned])
  const said = `Large blob ${formatSize(size)}, ${rounds} ${rounds === 1 ? 'round' : 'rounds'}, medians. ${describeMachine(versions)}.`
  const parts = (['folder', 's3'] as const).flatMap((storage) => {
    const some = results.filter((result) => result.storage === storage)
    return some.length === 0 ? [] : [`### ${storageNames[storage]}`, storageTable(some, size)]
  })
  return [said, ...parts].join('\n\n')
}

function storageTable(results: readonly ScenarioResult[], size: number): string {
  const head = ['', 'dvcr', 'distribution v3', 'docker-registry', 'dvcr ÷ v3', 'gate', '']
  const rows = results.flatMap(({ scenario, storage, rounds }) => [
    [`**${scenario.title(size)}**`, '', '', '', '', '', ''],
    ...Object.entries(scenario.metrics).map(([key, { label, unit, gates }]) => {
      const own = figure(rounds, 'dvcr', key)
      const share = ratio(rounds, key)
      const gate = gates?.[storage]
      return [
        label,
        ...contestants.map((who) => format(figure(rounds, who, key), unit)),
        share === undefined ? '' : `${share.toFixed(2)}×`,
        gate ? wanted(gate, unit) : '',
        gate ? verdict(isMet(gate, own, share)) : '',
      ]
    }),
  ])
  return table(head, rows)
}

/** The median of the rounds in which it did not fail. */
function figure(
  rounds: readonly RegistryRound[],
  who: Contestant,
  key: string,
): number | undefined {
  const values = rounds.flatMap((round) => round[who]?.[key] ?? [])
  return values.length === 0 ? undefined : median(values)
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
  const digits = Math.abs(value) < 10 ? 2 : value < 100 ? 1 : 0
  return unit === '×' ? `${value.toFixed(2)}×` : `${value.toFixed(digits)} ${unit}`
}
