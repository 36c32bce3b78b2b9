import type { RunningServer } from '../fixtures/servers.ts'
import type { Load } from './registry-load.ts'
import type { Contestant, Site, Storage } from './registry-sites.ts'

/** The unit says whether more is better: for speeds it is. */
export type Unit = 'MB/s' | '/s' | 'ms' | 's/GiB' | 's' | 'MiB' | '×' | '%' | 'things'

/** What ours must reach: a share of what distribution v3 has, or a figure. */
export type Gate =
  | { readonly shareOfPeer: number }
  | { readonly atMost: number }
  | { readonly atLeast: number }

export interface Metric {
  readonly label: string
  readonly unit: Unit
  readonly gates?: Partial<Record<Storage, Gate>>
}

/** One contestant's turn. */
export interface Turn {
  readonly contestant: Contestant
  readonly storage: Storage
  readonly site: Site
  /** Warm, and with nothing else to do. */
  readonly server: RunningServer
  readonly load: Load
  /** Of the large blob; what else there is shrinks and grows with it. */
  readonly size: number
  /** True once for each contestant: then what was stored is also compared. */
  readonly verify: boolean
  /** A further place of the contestant, with nothing in it; the caller disposes it. */
  newSite(): Promise<Site>
}

/** Measured figures by the key of their metric; the first round has all of them. */
export type Figures<Key extends string = string> = Readonly<Partial<Record<Key, number>>>

export interface Scenario<Key extends string = string> {
  readonly name: string
  /** What is done, with the sizes that `size` leads to. */
  readonly title: (size: number, storage: Storage) => string
  readonly storages: readonly Storage[]
  /** Who can do it at all; all of them unless said. */
  readonly contestants?: readonly Contestant[]
  /** Turns that its gates are for; three unless said. */
  readonly rounds?: number
  readonly metrics: Readonly<Record<Key, Metric>>
  run(turn: Turn): Promise<Figures<Key>>
}

/** Ties the figures of `run` to the metrics. */
export function defineScenario<Key extends string>(scenario: Scenario<Key>): Scenario {
  return scenario
}

/** The size that the gates are for. */
export const fullSize = 4 * 2 ** 30

export const mebibytes = (bytes: number): number => bytes / 2 ** 20
export const gibibytes = (bytes: number): number => bytes / 2 ** 30
export const megabytesPerSecond = (bytes: number, ms: number): number => bytes / 1e3 / ms

/** `4 GiB`, `256 MiB`. */
export function formatSize(bytes: number): string {
  return bytes >= 2 ** 30
    ? `${+gibibytes(bytes).toFixed(2)} GiB`
    : `${+mebibytes(bytes).toFixed(1)} MiB`
}

/** How many where `full` is for the full size. */
export const scaled = (full: number, size: number): number => {
  return Math.max(1, Math.round(full * Math.min(1, size / fullSize)))
}
