import { execa } from 'execa'
import { mkdir, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { startBenchDvcr, startDistribution, startVersitygw } from '../fixtures/bench-servers.ts'
import type { RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { forgetPeakRss, peakRssBytes, treeCpuMs } from './process-usage.ts'

export const contestants = ['dvcr', 'distribution', 'docker-registry'] as const
export type Contestant = (typeof contestants)[number]

/** Where a registry keeps its blobs: its own folder, or its own bucket on its own S3 server. */
export const storages = ['folder', 's3'] as const
export type Storage = (typeof storages)[number]

/** A new place for the data of one contestant. Servers and data are gone when it is disposed. */
export interface Site extends AsyncDisposable {
  /** Starts one more server on the data. */
  start(): Promise<RunningServer>
  /** Runs `work` and says what it took of the server, of the S3 server and of time. */
  measure(server: RunningServer, work: () => Promise<void>): Promise<Cost>
  /** Everything written so far survives a power cut. An S3 server is trusted to have done that. */
  sync(): Promise<void>
}

export interface Cost {
  readonly ms: number
  readonly cpuMs: number
  readonly backendCpuMs: number
  /** The server's peak. */
  readonly rssBytes: number
}

export async function createSite(contestant: Contestant, storage: Storage): Promise<Site> {
  await using owned = new AsyncDisposableStack()
  const folder = owned.use(await createTempFolder())
  const data = join(folder.path, 'data')
  await mkdir(data)
  const s3 = storage === 's3' ? owned.use(await startVersitygw(data)) : undefined
  // What earlier runs left to be written must not slow down this one.
  await execa('sync', ['-f', folder.path])
  const stack = owned.move()
  return {
    async start() {
      if (contestant === 'dvcr') return stack.use(await startBenchDvcr(data, s3))
      const version = contestant === 'distribution' ? 'v3' : 'debian'
      return stack.use(await startDistribution(version, data, s3))
    },
    async measure({ pid }, work) {
      forgetPeakRss(pid)
      const cpuBefore = treeCpuMs(pid)
      const backendBefore = s3 ? treeCpuMs(s3.pid) : 0
      const started = performance.now()
      await work()
      return {
        ms: performance.now() - started,
        cpuMs: treeCpuMs(pid) - cpuBefore,
        backendCpuMs: s3 ? treeCpuMs(s3.pid) - backendBefore : 0,
        rssBytes: peakRssBytes(pid),
      }
    },
    async sync() {
      if (storage === 'folder') await syncTree(data)
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

/** Like `sync -f`, without what other programs write to the same file system. */
async function syncTree(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const child = join(path, entry.name)
    if (entry.isDirectory()) await syncTree(child)
    else if (entry.isFile()) await syncOne(child)
  }
  await syncOne(path)
}

async function syncOne(path: string): Promise<void> {
  await using file = await open(path, 'r')
  await file.sync()
}
