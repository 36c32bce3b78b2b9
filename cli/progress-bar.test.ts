import { stripVTControlCharacters } from 'node:util'
import { setTimeout as sleep } from 'node:timers/promises'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { newImportRecord, type ImportRecord } from '../importer/import-record.ts'
import { captureTerminal } from '../test/fixtures/captured-terminal.ts'
import { createProgressBar } from './progress-bar.ts'

const queued = newImportRecord('http://a/b', { name: 'debian', tag: '12' })
const mib = 1024 * 1024
const running: ImportRecord = {
  ...queued,
  state: 'running',
  stage: 'transfer',
  format: 'raw',
  virtualSize: 10_240 * mib,
  progress: { bytes: 25 * mib, totalBytes: 100 * mib, bytesPerSecond: 5 * mib, etaMs: 15_000 },
}

/** What is on the line after all that was written to it. */
function shown(err: string): string {
  const drawn = err.slice(err.lastIndexOf('\r') + 1)
  return stripVTControlCharacters(drawn)
}

test('a terminal shows bar, share, bytes, speed, time left and format on one line', () => {
  const terminal = captureTerminal({ columns: 120 })
  createProgressBar(terminal).follow(running)
  expect(shown(terminal.output.err)).toBe(
    `[${'█'.repeat(6)}${'░'.repeat(18)}] transfer  25.0%  25.0 MiB of 100.0 MiB  5.00 MiB/s  ETA 15.0s  raw 10.0 GiB`,
  )
  expect(terminal.output).toMatchObject({ out: '' })
  expect(terminal.output.err).not.toContain('\n')
})

test('the bar is removed at the end', () => {
  const terminal = captureTerminal({ columns: 120 })
  const bar = createProgressBar(terminal)
  bar.follow(running)
  bar.end()
  expect(shown(terminal.output.err)).toBe('')
  expect(terminal.output.err.endsWith('\r\x1b[K')).toBe(true)
})

test('a line fits any terminal, whatever the import says', () => {
  const record = fc.record({
    bytes: fc.maxSafeNat(),
    totalBytes: fc.option(fc.maxSafeNat(), { nil: undefined }),
    bytesPerSecond: fc.maxSafeNat(),
    etaMs: fc.option(fc.maxSafeNat(), { nil: undefined }),
  })
  fc.assert(
    fc.property(record, fc.integer({ min: 1, max: 200 }), (progress, columns) => {
      const terminal = captureTerminal({ columns })
      createProgressBar(terminal).follow({ ...running, progress })
      expect(shown(terminal.output.err).length).toBeLessThan(columns)
      expect(terminal.output.err).not.toMatch(/NaN|undefined|Infinity/)
    }),
  )
})

test('a terminal that does not know its width is taken for an ordinary one', () => {
  const terminal = captureTerminal({ columns: 0 })
  createProgressBar(terminal).follow(running)
  expect(shown(terminal.output.err)).toHaveLength(79)
})

test('what was transferred never shows more than all of it', () => {
  const terminal = captureTerminal({ columns: 200 })
  const progress = { bytes: 500, totalBytes: 100, bytesPerSecond: 0 }
  createProgressBar(terminal).follow({ ...running, progress })
  expect(shown(terminal.output.err)).toContain(`[${'█'.repeat(24)}] transfer  100.0%`)
})

test('elsewhere there are plain lines, one for each stage at least', () => {
  const terminal = captureTerminal()
  const bar = createProgressBar(terminal)
  bar.follow(queued)
  bar.follow(running)
  bar.follow({ ...running, progress: { ...running.progress, bytes: 26 * mib } })
  bar.follow({ ...running, stage: 'digest' })
  bar.end()
  expect(terminal.output.err.split('\n')).toEqual([
    'queued  0 B',
    'transfer  25.0%  25.0 MiB of 100.0 MiB  5.00 MiB/s  ETA 15.0s  raw 10.0 GiB',
    'digest  25.0%  25.0 MiB of 100.0 MiB  5.00 MiB/s  raw 10.0 GiB',
    '',
  ])
})

test('a live bar is drawn a few times a second at most', async () => {
  const terminal = captureTerminal({ columns: 100 })
  const bar = createProgressBar(terminal)
  const startMs = performance.now()
  for (let bytes = 0; bytes < 500; bytes++) {
    bar.follow({ ...running, progress: { bytes, bytesPerSecond: 0 } })
    if (bytes % 50 === 0) await sleep(1)
  }
  const most = 1 + (performance.now() - startMs) / 100
  expect(terminal.output.err.split('\r').length - 1).toBeLessThanOrEqual(most)
})

test('each warning is written once, on a line of its own', () => {
  for (const columns of [100, undefined]) {
    const terminal = captureTerminal(columns === undefined ? {} : { columns })
    const bar = createProgressBar(terminal)
    bar.follow({ ...running, warnings: ['one'] })
    bar.follow({ ...running, warnings: ['one', 'two'] })
    bar.follow({ ...running, warnings: ['one', 'two'] })
    bar.end()
    const lines = stripVTControlCharacters(terminal.output.err).split(/[\r\n]+/)
    expect(lines.filter((line) => line.startsWith('warning: '))).toEqual([
      'warning: one',
      'warning: two',
    ])
  }
})
