import { buildBenchServers, type S3Tool } from '../fixtures/bench-servers.ts'
import { backup } from './registry-backup-scenario.ts'
import { oneBlob, parallelPush, slowPush } from './registry-blob-scenarios.ts'
import { collectGarbage } from './registry-gc-scenario.ts'
import { jobs } from './registry-load-jobs.ts'
import { startLoad, type Load } from './registry-load.ts'
import { manyTags } from './registry-manifest-scenarios.ts'
import type { Figures, Scenario } from './registry-scenario.ts'
import { contestants, createSite, type Contestant, type Storage } from './registry-sites.ts'
import { chunkedPush, commitStall, resumeElsewhere } from './registry-upload-scenarios.ts'

export const scenarios: readonly Scenario[] = [
  oneBlob,
  parallelPush,
  slowPush,
  commitStall,
  resumeElsewhere,
  chunkedPush,
  manyTags,
  collectGarbage,
  backup,
]

/** What one contestant measured in one round; nothing where it failed. */
export type RegistryRound = Readonly<Partial<Record<Contestant, Figures>>>

export interface ScenarioResult extends Choice {
  readonly rounds: readonly RegistryRound[]
}

/** What to run. */
export interface Choice {
  readonly scenario: Scenario
  readonly storage: Storage
}

export interface RegistryBenchOptions {
  readonly chosen: readonly Choice[]
  /** Of every scenario; what each says itself where it is missing. */
  readonly rounds?: number
  /** The S3 server that all store in. */
  readonly s3Server: S3Tool
  /** Bytes of the large blob. */
  readonly size: number
  readonly signal: AbortSignal
  /** Lines for people who wait. */
  readonly log: (line: string) => void
}

const usualRounds = 3
const warmUpBytes = 64 * 2 ** 20

/**
 * Runs every scenario by every contestant in turn, so that what else the machine does hits all
 * alike, each on new data, and yields per scenario and storage.
 */
export async function* benchRegistries(
  options: RegistryBenchOptions,
): AsyncGenerator<ScenarioResult> {
  await buildBenchServers(options.s3Server)
  await using load = startLoad()
  for (const { scenario, storage } of options.chosen) {
    const rounds: RegistryRound[] = []
    const count = options.rounds ?? scenario.rounds ?? usualRounds
    for (let round = 1; round <= count; round++) {
      const figures = new Map<Contestant, Figures>()
      for (const contestant of inTurn(scenario, storage, round)) {
        options.signal.throwIfAborted()
        const label = `${scenario.name}-${storage}, round ${round}, ${contestant}`
        const verify = round === 1
        try {
          const turn = { ...options, scenario, storage, contestant, load, verify }
          figures.set(contestant, await runTurn(turn))
          options.log(`${label}: ${JSON.stringify(rounded(figures.get(contestant) ?? {}))}`)
        } catch (error) {
          options.log(`${label}: failed: ${String(error).slice(0, 300)}`)
        }
      }
      rounds.push(Object.fromEntries(figures))
    }
    yield { scenario, storage, rounds }
  }
}

async function runTurn(turn: {
  readonly scenario: Scenario
  readonly storage: Storage
  readonly contestant: Contestant
  readonly load: Load
  readonly size: number
  readonly verify: boolean
  readonly s3Server: S3Tool
}): Promise<Figures> {
  const { scenario, storage, contestant, load, size, verify, s3Server } = turn
  const newSite = () => createSite(contestant, storage, s3Server)
  await using site = await newSite()
  const server = await site.start()
  await warmUp(server.url, load)
  return await scenario.run({ contestant, storage, site, server, load, size, verify, newSite })
}

/**
 * All in each round where a gate compares them, else all in the first one only. Another one begins
 * each round: who begins finds memory that the system has to fetch first.
 */
function inTurn(
  { contestants: all = contestants, metrics }: Scenario,
  storage: Storage,
  round: number,
): readonly Contestant[] {
  const compares = Object.values(metrics).some(({ gates }) => {
    const gate = gates?.[storage]
    return gate !== undefined && 'shareOfPeer' in gate
  })
  if (round > 1 && !compares) return all.filter((one) => one === 'dvcr')
  const first = (round - 1) % all.length
  return [...all.slice(first), ...all.slice(0, first)]
}

/** Ours compiles its code while it runs; the others get the same. */
async function warmUp(url: string, load: Load): Promise<void> {
  const blob = { url, name: 'bench/warm-up', size: warmUpBytes, seed: 'warm-up' }
  await load.run(jobs.push, { ...blob, count: 1 })
  await load.run(jobs.pull, { ...blob, verify: false })
  await load.run(jobs.headBlobs, { ...blob, count: 500, connections: 16 })
}

function rounded(figures: Figures): Figures {
  return Object.fromEntries(
    Object.entries(figures).map(([key, value = 0]) => [key, Number(value.toPrecision(3))]),
  )
}
