import { jobs } from './registry-load-jobs.ts'
import {
  defineScenario,
  formatSize,
  gibibytes,
  mebibytes,
  megabytesPerSecond,
} from './registry-scenario.ts'
import { treeCpuMs } from './process-usage.ts'

const name = 'bench/disk'
/** Part of the large blob that the parallel ones, and the small one, are. */
const smallShare = 16
const parallelPushes = 16
const slowPushes = 100
const slowShare = 128
const slowBytesPerSecond = 1e6

/** One large blob there and back. */
export const oneBlob = defineScenario({
  name: 'blob',
  title: (size) => `1 × ${formatSize(size)}`,
  storages: ['folder', 's3'],
  metrics: {
    push: {
      label: 'push',
      unit: 'MB/s',
      gates: { folder: { shareOfPeer: 1 }, s3: { shareOfPeer: 1.4 } },
    },
    pushCpu: { label: 'push, CPU', unit: 's/GiB' },
    pushBackend: { label: 'push, CPU of the S3 server', unit: 's/GiB' },
    pushClient: { label: 'push, CPU of the client', unit: 's/GiB' },
    pushRss: { label: 'push, memory', unit: 'MiB' },
    commit: {
      label: 'commit',
      unit: 'ms',
      gates: { folder: { atMost: 100 }, s3: { atMost: 500 } },
    },
    smallCommit: { label: `commit of 1/${smallShare} the size`, unit: 'ms' },
    pull: { label: 'pull', unit: 'MB/s', gates: { folder: { shareOfPeer: 0.95 } } },
    pullCpu: { label: 'pull, CPU', unit: 's/GiB' },
    pullClient: { label: 'pull, CPU of the client', unit: 's/GiB' },
    pullRss: { label: 'pull, memory', unit: 'MiB' },
  },
  async run({ site, server, load, size, verify }) {
    const blob = { url: server.url, name, size, seed: 'large' }
    await load.run(jobs.prepare, blob)
    let commitMs = 0
    let clientBefore = treeCpuMs(load.pid)
    const pushed = await site.measure(server, async () => {
      ;({ commitMs } = await load.run(jobs.push, { ...blob, count: 1 }))
      await site.sync()
    })
    const pushClientMs = treeCpuMs(load.pid) - clientBefore
    clientBefore = treeCpuMs(load.pid)
    const pulled = await site.measure(server, async () => {
      await load.run(jobs.pull, { ...blob, verify: false })
    })
    const pullClientMs = treeCpuMs(load.pid) - clientBefore
    if (verify) await load.run(jobs.pull, { ...blob, verify })
    const small = { ...blob, size: size / smallShare, seed: 'small' }
    const perGiB = (ms: number): number => ms / 1000 / gibibytes(size)
    return {
      push: megabytesPerSecond(size, pushed.ms),
      pushCpu: perGiB(pushed.cpuMs),
      pushBackend: perGiB(pushed.backendCpuMs),
      pushClient: perGiB(pushClientMs),
      pushRss: mebibytes(pushed.rssBytes),
      commit: commitMs,
      smallCommit: (await load.run(jobs.push, { ...small, count: 1 })).commitMs,
      pull: megabytesPerSecond(size, pulled.ms),
      pullCpu: perGiB(pulled.cpuMs),
      pullClient: perGiB(pullClientMs),
      pullRss: mebibytes(pulled.rssBytes),
    }
  },
})

/** Many blobs at the same time, as fast as they can. */
export const parallelPush = defineScenario({
  name: 'parallel',
  title: (size) => `${parallelPushes} × ${formatSize(size / smallShare)} at a time`,
  storages: ['folder', 's3'],
  metrics: {
    push: { label: 'push', unit: 'MB/s' },
    cpu: { label: 'CPU', unit: 's/GiB' },
    rss: {
      label: 'memory',
      unit: 'MiB',
      gates: { folder: { atMost: 256 }, s3: { atMost: 512 } },
    },
    commit: { label: 'slowest commit', unit: 'ms' },
  },
  async run({ site, server, load, size }) {
    const blob = { url: server.url, name, size: size / smallShare, seed: 'parallel' }
    await load.run(jobs.prepare, blob)
    const bytes = blob.size * parallelPushes
    let commitMs = 0
    const cost = await site.measure(server, async () => {
      ;({ commitMs } = await load.run(jobs.push, { ...blob, count: parallelPushes }))
      await site.sync()
    })
    return {
      push: megabytesPerSecond(bytes, cost.ms),
      cpu: cost.cpuMs / 1000 / gibibytes(bytes),
      rss: mebibytes(cost.rssBytes),
      commit: commitMs,
    }
  },
})

/** Many clients on slow lines. */
export const slowPush = defineScenario({
  name: 'slow',
  title: (size) => `${slowPushes} × ${formatSize(size / slowShare)} at 1 MB/s each`,
  storages: ['folder', 's3'],
  metrics: {
    rss: {
      label: 'memory',
      unit: 'MiB',
      gates: { folder: { atMost: 400 }, s3: { atMost: 400 } },
    },
    cpu: { label: 'CPU', unit: 's/GiB' },
    time: { label: 'time', unit: 's' },
  },
  async run({ site, server, load, size }) {
    const blob = { url: server.url, name, size: size / slowShare, seed: 'slow' }
    await load.run(jobs.prepare, blob)
    const cost = await site.measure(server, async () => {
      const speed = { count: slowPushes, bytesPerSecond: slowBytesPerSecond }
      await load.run(jobs.push, { ...blob, ...speed })
    })
    return {
      rss: mebibytes(cost.rssBytes),
      cpu: cost.cpuMs / 1000 / gibibytes(blob.size * slowPushes),
      time: cost.ms / 1000,
    }
  },
})
