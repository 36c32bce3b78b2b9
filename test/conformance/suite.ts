import {
  endpoints,
  runCheck,
  type Check,
  type Endpoint,
  type Level,
  type Outcome,
} from './check.ts'
import { chunkChecks } from './chunk-checks.ts'
import type { Send } from './client.ts'
import { deleteChecks } from './delete-checks.ts'
import { errorChecks } from './error-checks.ts'
import { manifestChecks } from './manifest-checks.ts'
import { manifestReadChecks } from './manifest-read-checks.ts'
import { mountChecks } from './mount-checks.ts'
import { pullChecks } from './pull-checks.ts'
import { pushChecks } from './push-checks.ts'
import { referrerChecks } from './referrer-checks.ts'
import { tagChecks } from './tag-checks.ts'

/** Requests at work at once: registries flush to disk, which waits. */
const atOnce = 8

export interface Result {
  readonly check: Check
  readonly outcome: Outcome
}

const order: readonly string[] = Object.keys(endpoints)
const orderOf = ({ endpoint }: Check): number => order.indexOf(endpoint)

/** All checks of a level, in the order of the spec's table. */
export function checksOf(level: Level): Check[] {
  const all = [
    ...pullChecks,
    ...pushChecks,
    ...chunkChecks,
    ...mountChecks,
    ...manifestChecks,
    ...manifestReadChecks,
    ...tagChecks,
    ...deleteChecks,
    ...referrerChecks,
    ...errorChecks,
  ]
  return all
    .filter((check) => level === 'main' || check.level === '1.1')
    .toSorted((a, b) => orderOf(a) - orderOf(b))
}

/** Runs all checks of a level, in the order of the spec's table. */
export async function runSuite(send: Send, level: Level): Promise<Result[]> {
  const checks = checksOf(level)
  const results: Result[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    for (let at = next++; at < checks.length; at = next++) {
      const check = checks[at]
      if (check) results[at] = { check, outcome: await runCheck(check, send) }
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return results
}

export interface Counts {
  readonly passed: number
  readonly failed: number
  readonly unsupported: number
}

export function countsOf(results: readonly Result[]): Counts {
  const count = (kind: Outcome['kind']) =>
    results.filter(({ outcome }) => outcome.kind === kind).length
  return { passed: count('passed'), failed: count('failed'), unsupported: count('unsupported') }
}

/** Results by endpoint, in the order of the spec's table; only endpoints that have some. */
export function byEndpoint(results: readonly Result[]): [Endpoint, Result[]][] {
  return [...Map.groupBy(results, ({ check }) => check.endpoint)]
}
