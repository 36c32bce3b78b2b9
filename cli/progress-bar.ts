import { formatDuration, formatSize } from '../core/sizes.ts'
import type { ImportRecord } from '../importer/import-record.ts'
import type { Terminal } from './terminal.ts'

/** Shows an import while it runs. */
export interface ProgressBar {
  follow(record: ImportRecord): void
  /** Removes the bar. */
  end(): void
}

const barWidth = 24
const drawEveryMs = 100
const printEveryMs = 5000

/** A live bar on a terminal, a plain line every few seconds elsewhere. */
export function createProgressBar({ stderr }: Terminal): ProgressBar {
  const live = stderr.isTTY === true
  let shownMs = Number.NEGATIVE_INFINITY
  let stage = ''
  let warned = 0
  const clear = (): void => void (live && stderr.write('\r\x1b[K'))
  return {
    follow(record) {
      for (const warning of record.warnings.slice(warned)) {
        clear()
        stderr.write(`warning: ${warning}\n`)
        warned++
      }
      const nowMs = performance.now()
      const now = record.stage ?? record.state
      if (nowMs - shownMs < (live ? drawEveryMs : printEveryMs) && now === stage) return
      shownMs = nowMs
      stage = now
      const line = figures(record)
      if (live) stderr.write(`\r\x1b[K${fit(`${bar(record)}${line}`, stderr.columns || 80)}`)
      else stderr.write(`${line}\n`)
    },
    end: clear,
  }
}

function bar({ progress: { bytes, totalBytes } }: ImportRecord): string {
  if (totalBytes === undefined || totalBytes === 0) return ''
  const full = Math.floor(Math.min(1, bytes / totalBytes) * barWidth)
  return `[${'█'.repeat(full)}${'░'.repeat(barWidth - full)}] `
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

function fit(line: string, columns: number): string {
  return line.length < columns ? line : line.slice(0, columns - 1)
}
