import { execa } from 'execa'
import { readFile, writeFile } from 'node:fs/promises'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'

const document = join(import.meta.dirname, '../../docs/benchmarks.md')

export type Cells = readonly string[]

/** A Markdown table; all columns but the first hold figures. */
export function table(head: Cells, rows: readonly Cells[]): string {
  const lines = [head, head.map((_, column) => (column === 0 ? '---' : '---:')), ...rows]
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const low = sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN
  const high = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
  return (low + high) / 2
}

export const verdict = (isMet: boolean): string => (isMet ? 'met' : '**missed**')

/** `name 1.2.3`, from what the program says about itself. */
export async function versionOf(name: string, program = name): Promise<string> {
  // bzip2 tells it as an error.
  const { all, exitCode } = await execa(program, ['--version'], {
    reject: false,
    all: true,
    stdin: 'ignore',
  })
  const [version] = /\d+(?:\.\d+)+/.exec(all ?? '') ?? []
  return `${name} ${exitCode === undefined ? '(not installed)' : (version ?? '')}`
}

/** The machine and the programs, for the line above the tables. */
export function describeMachine(versions: readonly string[]): string {
  return [
    `${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown CPU'}`,
    `${Math.round(totalmem() / 2 ** 30)} GiB of memory`,
    `Linux ${release()}`,
    `Node ${process.versions.node}`,
    ...versions,
  ].join(', ')
}

/** Puts the report between the markers of `name` in docs/benchmarks.md. */
export async function writeReport(name: string, report: string): Promise<void> {
  const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`]
  const text = await readFile(document, 'utf8')
  const from = text.indexOf(begin)
  const to = text.indexOf(end)
  if (from < 0 || to < from) throw new Error(`${document} has no ${begin} … ${end}`)
  const before = text.slice(0, from + begin.length)
  await writeFile(document, `${before}\n\n${report}\n\n${text.slice(to)}`)
}
