import { jsonLines } from './json-lines.ts'
import { isNightly } from './nightly.ts'

const usualMs = process.env['CI'] === undefined ? 10_000 : 60_000

/** How long a fuzzer runs: a taste by default, a minute in CI, long at night. */
export const fuzzMs = isNightly ? 20 * 60_000 : usualMs

/** Another one at every run; failures name it, and `DVCR_FUZZ_SEED` takes it back. */
export const fuzzSeed = Number(process.env['DVCR_FUZZ_SEED'] ?? Date.now() % 2 ** 31)

/** A server that is asked for anything takes no more. */
export const rssLimitBytes = 512 * 1024 * 1024

/** The storage may be full, and a server that stops says so. */
const allowedFailures = new Set(['STORAGE_FULL', 'UNAVAILABLE'])

/** Failures of its own that a server has logged. */
export function loggedFailures(output: string): unknown[] {
  return jsonLines(output).filter(
    ({ level, code }) => Number(level) >= 50 && !allowedFailures.has(String(code)),
  )
}
