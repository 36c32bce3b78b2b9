import { formatDuration, formatSize } from '../core/sizes.ts'
import type { ImportRecord } from '../importer/import-record.ts'
import { createLiveLine } from './live-line.ts'
import type { Terminal } from './terminal.ts'

/** Shows an import while it runs. */
export interface ProgressBar {
  follow(record: ImportRecord): void
  /** Removes the bar. */
  end(): void
}

/** A live bar on a terminal, a plain line every few seconds elsewhere. */
export function createProgressBar(terminal: Terminal): ProgressBar {
  const line = createLiveLine(terminal)
  let stage = ''
  let warned = 0
  return {
    follow(record) {
      for (const warning of record.warnings.slice(warned)) {
        line.print(`warning: ${warning}`)
        warned++
      }
      const now = record.stage ?? record.state
      if (now !== stage) line.refresh()
      stage = now
      line.show(figures(record), shareOf(record))
    },
    end: () => line.end(),
  }
}

function shareOf({ progress: { bytes, totalBytes } }: ImportRecord): number | undefined {
  return totalBytes === undefined || totalBytes === 0 ? undefined : bytes / totalBytes
}

function figures({ state, stage, progress, format, virtualSize }: ImportRecord): string {
  const { bytes, totalBytes, bytesPerSecond, etaMs } = progress
  const share = totalBytes ? `${Math.min(100, (bytes / totalBytes) * 100).toFixed(1)}%` : ''
  const of = totalBytes === undefined ? '' : ` of ${formatSize(totalBytes)}`
  const speed = bytesPerSecond > 0 ? `${formatSize(bytesPerSecond)}/s` : ''
  const eta =
    etaMs !== undefined && (stage === 'transfer' || stage === 'push')
      ? `ETA ${formatDuration(etaMs)}`
      : ''
  const disk = virtualSize === undefined ? '' : ` ${formatSize(virtualSize)}`
  return [stage ?? state, share, `${formatSize(bytes)}${of}`, speed, eta, `${format ?? ''}${disk}`]
    .filter((part) => part !== '')
    .join('  ')
}
