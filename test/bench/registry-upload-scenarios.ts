import { jobs } from './registry-load-jobs.ts'
import { startLoad } from './registry-load.ts'
import { defineScenario, formatSize, mebibytes } from './registry-scenario.ts'

const name = 'bench/disk'
const otherName = 'bench/other'
const smallBlob = { size: 64, seed: 'polled' }
const pollBytes = smallBlob.size

/** A small blob in another repository, asked for over and over while a large one commits. */
export const commitStall = defineScenario({
  name: 'stall',
  title: (size) => `GET of ${pollBytes} bytes elsewhere, 1 × ${formatSize(size)} pushed meanwhile`,
  storages: ['folder', 's3'],
  metrics: {
    commit: {
      label: 'slowest while it commits',
      unit: 'ms',
      gates: { folder: { atMost: 50 }, s3: { atMost: 50 } },
    },
    ever: { label: 'slowest while it is pushed', unit: 'ms' },
  },
  async run({ server, load, size }) {
    await using poller = startLoad()
    const polled = { url: server.url, name: otherName, ...smallBlob }
    await poller.run(jobs.push, { ...polled, count: 1 })
    await poller.run(jobs.startPolling, polled)
    const blob = { url: server.url, name, size, seed: 'stall' }
    const { commitAt, commitMs } = await load.run(jobs.push, { ...blob, count: 1 })
    const during = { fromAt: commitAt, toAt: commitAt + commitMs }
    const { maxMs, maxEverMs } = await poller.run(jobs.stopPolling, during)
    return { commit: maxMs, ever: maxEverMs }
  },
})

const resumeShare = 4
const sentShare = 0.7

/** The server is killed in the middle of an upload; another one goes on. */
export const resumeElsewhere = defineScenario({
  name: 'resume',
  title: (size) => `${formatSize(size / resumeShare)}, kill -9 at 70 %, resumed on another replica`,
  storages: ['folder', 's3'],
  metrics: {
    again: {
      label: 'sent again',
      unit: 'MiB',
      gates: { folder: { atMost: 64 }, s3: { atMost: 64 } },
    },
    commit: { label: 'commit', unit: 'ms' },
  },
  async run({ site, storage, server, load, size, verify }) {
    // One process owns a folder: there the other one starts afterwards.
    const replica = storage === 's3' ? await site.start() : undefined
    const blob = { name, size: size / resumeShare, seed: 'resume' }
    const bytes = Math.floor(blob.size * sentShare)
    const half = await load.run(jobs.pushHalf, { ...blob, url: server.url, bytes })
    await server.kill9()
    const { url } = replica ?? (await site.start())
    const resumed = await load.run(jobs.resume, { ...blob, url, path: half.path })
    if (verify) await load.run(jobs.pull, { ...blob, url, verify })
    return { again: mebibytes(bytes - resumed.startedAt), commit: resumed.commitMs }
  },
})

const chunkedShare = 8
const mebibyte = 2 ** 20

/** A blob in chunks of a few sizes, compared with one sent in one request. */
export const chunkedPush = defineScenario({
  name: 'chunks',
  title: (size) => `${formatSize(size / chunkedShare)} in chunks, time ÷ that of one stream`,
  storages: ['folder', 's3'],
  metrics: {
    chunks1: { label: 'chunks of 1 MiB', unit: '×' },
    chunks5: { label: 'chunks of 5 MiB', unit: '×' },
    chunks12: { label: 'chunks of 12 MiB', unit: '×' },
    chunks100: { label: 'chunks of 100 MiB', unit: '×' },
    stream: { label: 'one stream', unit: 's' },
  },
  async run({ site, server, load, size }) {
    const blob = { url: server.url, name, size: size / chunkedShare, count: 1 }
    await load.run(jobs.prepare, blob)
    const push = async (mebibytes?: number): Promise<number> => {
      const chunks = mebibytes === undefined ? {} : { chunkBytes: mebibytes * mebibyte }
      const { ms } = await site.measure(server, async () => {
        await load.run(jobs.push, { ...blob, seed: `chunks-${mebibytes}`, ...chunks })
        await site.sync()
      })
      return ms
    }
    const stream = await push()
    return {
      chunks1: (await push(1)) / stream,
      chunks5: (await push(5)) / stream,
      chunks12: (await push(12)) / stream,
      chunks100: (await push(100)) / stream,
      stream: stream / 1000,
    }
  },
})
