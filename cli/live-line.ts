import type { Terminal } from './terminal.ts'

/** One line that says how far something is. */
export interface LiveLine {
  /** `share`: how much of a bar is full, between 0 and 1; no bar without it. */
  show(text: string, share?: number): void
  /** The next `show` is shown whenever it comes. */
  refresh(): void
  /** Writes a line of its own above it. */
  print(text: string): void
  /** Removes it. */
  end(): void
}

const barWidth = 24
const drawEveryMs = 100
const printEveryMs = 5000

/** Drawn again and again on a terminal, a plain line every few seconds elsewhere. */
export function createLiveLine({ stderr }: Pick<Terminal, 'stderr'>): LiveLine {
  const live = stderr.isTTY === true
  // What is over soon needs no line.
  let shownMs = live ? Number.NEGATIVE_INFINITY : performance.now()
  const clear = (): void => void (live && stderr.write('\r\x1b[K'))
  return {
    show(text, share) {
      const nowMs = performance.now()
      if (nowMs - shownMs < (live ? drawEveryMs : printEveryMs)) return
      shownMs = nowMs
      if (live) stderr.write(`\r\x1b[K${fit(`${bar(share)}${text}`, stderr.columns || 80)}`)
      else stderr.write(`${text}\n`)
    },
    refresh() {
      shownMs = Number.NEGATIVE_INFINITY
    },
    print(text) {
      clear()
      stderr.write(`${text}\n`)
      if (live) shownMs = Number.NEGATIVE_INFINITY
    },
    end: clear,
  }
}

function bar(share: number | undefined): string {
  if (share === undefined) return ''
  const full = Math.floor(Math.min(1, share) * barWidth)
  return `[${'█'.repeat(full)}${'░'.repeat(barWidth - full)}] `
}

function fit(line: string, columns: number): string {
  return line.length < columns ? line : line.slice(0, columns - 1)
}
