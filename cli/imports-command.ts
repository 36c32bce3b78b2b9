import { CodedError } from '../core/errors.ts'
import { formatSize } from '../core/sizes.ts'
import type { ImportRecord } from '../importer/import-record.ts'
import { createApiClient } from './api-client.ts'
import { writeTable } from './table.ts'
import { openServer, openTarget, type TargetFlags } from './target.ts'
import type { CommandContext } from './terminal.ts'

const head = ['ID', 'STARTED', 'IMAGE', 'STATE', 'PROGRESS', 'SOURCE', 'ERROR']

/** `dvcr imports` */
export async function importsCommand(
  flags: TargetFlags & { readonly json?: boolean },
  { terminal }: CommandContext,
): Promise<void> {
  await using target = await openTarget(flags, terminal)
  const imports = await target.imports.list({})
  if (flags.json) return void terminal.stdout.write(`${JSON.stringify(imports, undefined, 2)}\n`)
  writeTable(terminal.stdout, head, imports.map(row))
}

/** `dvcr imports pause`, `retry` and `cancel`: prints the import as it then is. */
export async function changeImportCommand(
  { change, id }: { readonly change: 'pause' | 'retry' | 'cancel'; readonly id: string },
  flags: TargetFlags & { readonly json?: boolean },
  { terminal }: CommandContext,
): Promise<void> {
  if (flags.data !== undefined) {
    throw new CodedError('REQUEST_INVALID', 'the imports of a server are changed with --server')
  }
  await using http = openServer(flags.server, terminal.env)
  const record = await createApiClient(http).imports[change](id)
  if (flags.json) terminal.stdout.write(`${JSON.stringify(record, undefined, 2)}\n`)
  else writeTable(terminal.stdout, head, [row(record)])
}

function row({ id, createdAt, name, tag, state, progress, source, error }: ImportRecord): string[] {
  const { bytes, totalBytes } = progress
  const share = totalBytes ? ` (${((bytes / totalBytes) * 100).toFixed(1)}%)` : ''
  const failure = error ? `${error.code}: ${error.message}` : ''
  return [id, createdAt, `${name}:${tag}`, state, `${formatSize(bytes)}${share}`, source, failure]
}
