import type { DecodeResult } from './decompress-bench.ts'
import { describeMachine, median, table, versionOf } from './report.ts'

const tools = ['gzip', 'pigz', 'igzip', 'zstd', 'xz', 'bzip2', 'lbzip2', 'lz4']

/** Markdown: for every input its engines, ours first. */
export async function decompressReport(
  results: readonly DecodeResult[],
  { rounds, size }: { readonly rounds: number; readonly size: number },
): Promise<string> {
  const machine = describeMachine(await Promise.all(tools.map((tool) => versionOf(tool))))
  const head = ['input', 'engine', 'time', 'MB/s', 'CPU', 'memory', '÷ dvcr']
  const rows = results.flatMap(({ input, packed, runs }) => {
    const ours = runs[0]?.rounds ?? []
    return runs.map(({ engine, rounds: measured }, index) => {
      const label = index === 0 ? `**${input.name}** (${megabytes(packed)})` : ''
      if (measured.length === 0) return [label, engine.name, 'not installed', '', '', '', '']
      const wallMs = median(measured.map((run) => run.wallMs))
      const times = measured.map((run, round) => run.wallMs / (ours[round]?.wallMs ?? Number.NaN))
      return [
        label,
        engine.name,
        seconds(wallMs),
        (size / 1000 / wallMs).toFixed(0),
        seconds(median(measured.map((run) => run.cpuMs))),
        megabytes(median(measured.map((run) => run.totalRssBytes))),
        `${median(times).toFixed(2)}×`,
      ]
    })
  })
  return [
    `${megabytes(size)} of a disk's data, ${rounds} ${rounds === 1 ? 'round' : 'rounds'}, medians. ${machine}.`,
    table(head, rows),
  ].join('\n\n')
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`
const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`
