import { execa } from 'execa'
import { join } from 'node:path'
import type { Variant } from '../fixtures/images.ts'
import type { BenchInput } from './import-bench.ts'
import { measure, type Usage } from './process-usage.ts'

/** What an import is compared with beside the pipelines of tools. */
export interface ImportRival {
  readonly name: string
  /** How fast the import is to be, where the rival is 1. */
  readonly aim: number
  /** A command that decodes the file at `path`, or another file to import. */
  readonly does:
    | { readonly command: (path: string) => readonly string[] }
    | { readonly imports: Variant }
}

const decodeProcess = join(import.meta.dirname, 'decode-process.ts')
const decodeOnly: ImportRival = {
  name: 'Node that only decodes and counts',
  aim: 0.7,
  does: { command: (path) => [process.execPath, decodeProcess, 'node', path] },
}

export const importRivals: Readonly<Partial<Record<BenchInput, ImportRival>>> = {
  'raw.gz': decodeOnly,
  'raw.zst': decodeOnly,
  'raw.xz': {
    name: '`xz -dc -T1` alone',
    aim: 0.9,
    does: { command: (path) => ['sh', '-c', 'xz -dc -T1 "$1" >/dev/null', 'sh', path] },
  },
  'raw.multi-block.xz': {
    name: 'the import with one decoder thread',
    aim: 1.4,
    does: { imports: 'raw.unsized-blocks.xz' },
  },
}

/** Runs a rival's command. */
export function measureCommand(
  [program = '', ...args]: readonly string[],
  signal: AbortSignal,
): Promise<Usage> {
  return measure([], async (started) => {
    const command = execa(program, args, { cancelSignal: signal })
    started(command.pid)
    await command
  })
}
