import { formatSize } from '../core/sizes.ts'
import type { ImportRecord } from '../importer/import-record.ts'
import { writeTable } from './table.ts'
import { openTarget, type TargetFlags } from './target.ts'
import type { CommandContext } from './terminal.ts'

/** `dvcr imports` */
export async function importsCommand(
  flags: TargetFlags & { readonly json?: boolean },
  { terminal }: CommandContext,
): Promise<void> {
  await using target = await openTarget(flags, terminal)
  const imports = await target.imports.list({})
  if (flags.json) return void terminal.stdout.write(`${JSON.stringify(imports, undefined, 2)}\n`)
  const head = ['STARTED', 'IMAGE', 'STATE', 'PROGRESS', 'SOURCE', 'ERROR']
  writeTable(terminal.stdout, head, imports.map(row))
}

function row({ createdAt, name, tag, state, progress, source, error }: ImportRecord): string[] {
  const { bytes, totalBytes } = progress
  const share = totalBytes ? ` (${((bytes / totalBytes) * 100).toFixed(1)}%)` : ''
  const failure = error ? `${error.code}: ${error.message}` : ''
  return [createdAt, `${name}:${tag}`, state, `${formatSize(bytes)}${share}`, source, failure]
}
