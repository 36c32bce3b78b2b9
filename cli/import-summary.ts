import { CodedError } from '../core/errors.ts'
import { formatDuration, formatSize } from '../core/sizes.ts'
import type { ImportRecord } from '../importer/import-record.ts'
import type { Terminal } from './terminal.ts'

/** The result of an import: a few lines for people, or one line of JSON with every figure. */
export function printImport(
  { name, tag, image }: ImportRecord,
  { json }: { readonly json?: boolean },
  { stdout }: Terminal,
): void {
  if (!image) throw new CodedError('UNKNOWN', `the import of ${name}:${tag} ended without an image`)
  if (json) {
    stdout.write(`${JSON.stringify({ name, tag, ...image })}\n`)
    return
  }
  const stored =
    image.format === image.storedFormat
      ? image.format
      : `${image.format}, stored as ${image.storedFormat}`
  const speed = `${formatSize(image.sourceBytes)} in ${formatDuration(image.durationMs)}, ${formatSize(image.bytesPerSecond)}/s`
  const rows = [
    ['format', stored],
    ['virtual size', formatSize(image.virtualSize)],
    ...(image.architecture === undefined ? [] : [['architecture', image.architecture]]),
    ['stored', `${formatSize(image.storedSize)} (${image.storedSize} bytes)`],
    ['transferred', speed],
    ...(image.scratchBytes > 0 ? [['scratch', formatSize(image.scratchBytes)]] : []),
    ['digest', image.digest],
  ]
  stdout.write(`${name}:${tag}\n`)
  for (const [label = '', value = ''] of rows) stdout.write(`  ${label.padEnd(13)} ${value}\n`)
}
