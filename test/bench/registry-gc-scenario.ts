import { setTimeout as sleep } from 'node:timers/promises'
import { createAdminClient } from '../../cli/registry-client.ts'
import { createHttpClient } from '../../core/http-client.ts'
import type { GcAdmin } from '../../registry/admin/admin.ts'
import { peakRssBytes, forgetPeakRss } from './process-usage.ts'
import { jobs } from './registry-load-jobs.ts'
import { manifestConfig } from './registry-load-small.ts'
import type { Load } from './registry-load.ts'
import {
  defineScenario,
  formatSize,
  mebibytes,
  megabytesPerSecond,
  scaled,
} from './registry-scenario.ts'
import type { Storage } from './registry-sites.ts'
import { seededPerManifest } from './registry-seeded-blobs.ts'
import { seedStore } from './registry-seed.ts'

const name = 'bench/pushed'
/** A bucket takes so much longer to seed that there are fewer. */
const seededBlobs = { folder: 100_000, s3: 10_000 } as const satisfies Record<Storage, number>
const imageShare = 256
/** Images of one measurement, so that the disk fills no faster where pushes are fast. */
const imagesAtOnce = 128
const connections = 4
const pollMs = 250

/** A whole number of manifests, and as much garbage. */
function blobsOf(size: number, storage: Storage): number {
  const both = 2 * seededPerManifest
  return Math.max(1, Math.round(scaled(seededBlobs[storage], size) / both)) * both
}

/** Pushes beside the collector, which looks and condemns first, and removes after a minute. */
export const collectGarbage = defineScenario({
  name: 'gc',
  title: (size, storage) =>
    `garbage collection, ${blobsOf(size, storage)} blobs, half of them garbage; images of ${formatSize(size / imageShare)} pushed by ${connections} connections`,
  storages: ['folder', 's3'],
  contestants: ['dvcr'],
  rounds: 5,
  metrics: {
    slowed: {
      label: 'pushes slowed by',
      unit: '%',
      gates: { folder: { atMost: 20 }, s3: { atMost: 20 } },
    },
    lost: {
      label: 'blobs and images lost',
      unit: 'things',
      gates: { folder: { atMost: 0 }, s3: { atMost: 0 } },
    },
    left: {
      label: 'garbage left',
      unit: 'things',
      gates: { folder: { atMost: 0 }, s3: { atMost: 0 } },
    },
    without: { label: 'pushes without it', unit: 'MB/s' },
    looking: { label: 'pushes while it looks', unit: 'MB/s' },
    removing: { label: 'pushes while it removes', unit: 'MB/s' },
    time: { label: 'collection, with its grace of a minute', unit: 's' },
    rss: { label: 'memory meanwhile', unit: 'MiB' },
  },
  async run({ site, storage, server, load, size, verify }) {
    const blobs = blobsOf(size, storage)
    await server.stop()
    await seedStore(site.place, blobs)
    const own = await site.start(['--gc-interval-minutes', '0'])
    await using http = createHttpClient(new URL(own.url))
    const { gc } = createAdminClient(http)
    await load.run(jobs.push, { url: own.url, name, ...manifestConfig, count: 1 })
    const pushes = createPushes(load, { url: own.url, name, size: size / imageShare, seed: 'gc' })

    await pushes.measure()
    const before = await pushes.measure()
    forgetPeakRss(own.pid)
    const started = performance.now()
    const collection = watchCollection(gc)
    const looking = await pushes.measure(collection.removing)
    await collection.removing
    const removing = await pushes.measure(collection.ended)
    const during = together([looking, removing])
    const speeds = {
      looking: megabytesPerSecond(looking.bytes, looking.ms),
      removing: megabytesPerSecond(removing.bytes, removing.ms),
    }
    if (!verify) {
      // The rest of it takes minutes and is the same each time.
      return {
        ...speeds,
        slowed: slowedBy(before, during),
        lost: await pushes.countLost(),
        without: megabytesPerSecond(before.bytes, before.ms),
      }
    }
    const unreferenced = await collection.ended
    const time = performance.now() - started
    const rss = peakRssBytes(own.pid)
    const after = await pushes.measure()

    if (unreferenced !== blobs / 2) throw new Error(`it found ${unreferenced} links of garbage`)
    const seeded = await load.run(jobs.countSeeded, { url: own.url, count: blobs })
    const without = together([before, after])
    return {
      ...speeds,
      slowed: slowedBy(without, during),
      lost: seeded.lost + (await pushes.countLost()),
      left: seeded.left,
      without: megabytesPerSecond(without.bytes, without.ms),
      time: time / 1000,
      rss: mebibytes(rss),
    }
  },
})

interface Pushed {
  readonly bytes: number
  readonly ms: number
}

function together(some: readonly Pushed[]): Pushed {
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
  return { bytes: sum(some.map(({ bytes }) => bytes)), ms: sum(some.map(({ ms }) => ms)) }
}

const slowedBy = (without: Pushed, during: Pushed): number =>
  (1 - during.bytes / during.ms / (without.bytes / without.ms)) * 100

function createPushes(
  load: Load,
  images: {
    readonly url: string
    readonly name: string
    readonly size: number
    readonly seed: string
  },
) {
  let pushed = 0
  return {
    /** Pushes images; what was complete when `until` resolves counts. */
    async measure(until: Promise<unknown> = new Promise(() => {})): Promise<Pushed> {
      const [from, to] = [pushed, pushed + imagesAtOnce]
      pushed = to
      let endAt = Infinity
      const noteEnd = (): void => {
        endAt = now()
      }
      until.then(noteEnd, noteEnd)
      const startAt = now()
      const { at } = await load.run(jobs.pushImages, { ...images, from, to, connections })
      const counted = at.filter((one) => one <= endAt)
      const ms = Math.min(endAt, at.at(-1) ?? startAt) - startAt
      return { bytes: counted.length * images.size, ms }
    },
    async countLost(): Promise<number> {
      const all = { ...images, from: 0, to: pushed }
      return (await load.run(jobs.countLostImages, all)).lost
    },
  }
}

const now = (): number => performance.timeOrigin + performance.now()

/** Starts a collection. `removing`: the first of the garbage is gone; `ended`: how much it found. */
function watchCollection(gc: GcAdmin) {
  const removing = Promise.withResolvers<void>()
  // Reported where they are awaited.
  removing.promise.catch(() => {})

  async function run(): Promise<number> {
    const { freedBlobs } = await gc.state()
    const { signal } = new AbortController()
    let found: number | undefined
    async function look(): Promise<void> {
      for await (const event of gc.run({ dryRun: false, wait: false, signal })) {
        if ('report' in event) found = event.report.unreferencedLinks
      }
    }
    async function watch(): Promise<void> {
      for (;;) {
        // What it had found when the state was asked for is what the state is about.
        const isFound = found !== undefined
        const state = await gc.state()
        if (state.freedBlobs > freedBlobs) removing.resolve()
        if (isFound && state.pending === 0) return
        await sleep(pollMs)
      }
    }
    await Promise.all([look(), watch()])
    return found ?? 0
  }
  const ended = run()
  ended.catch(removing.reject)
  return { removing: removing.promise, ended }
}
