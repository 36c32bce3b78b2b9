import { execa } from 'execa'
import { mkdir, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import {
  startBenchDvcr,
  startDistribution,
  startS3,
  type S3Tool,
} from '../fixtures/bench-servers.ts'
import type { S3Server } from '../fixtures/s3-server.ts'
import type { RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { forgetPeakRss, peakRssBytes, treeCpuMs } from './process-usage.ts'

export const contestants = ['dvcr', 'distribution', 'docker-registry'] as const
export type Contestant = (typeof contestants)[number]

/** Where a registry keeps its blobs: its own folder, or its own bucket on its own S3 server. */
export const storages = ['folder', 's3'] as const
export type Storage = (typeof storages)[number]

/** Where the data is: in the folder, or in the S3 server's bucket where there is one. */
export interface Place {
  readonly folder: string
  readonly s3: S3Server | undefined
}

/** A new place for the data of one contestant. Servers and data are gone when it is disposed. */
export interface Site extends AsyncDisposable {
  readonly place: Place
  /** Starts one more server on the data; `flags` are of `dvcr serve`. */
  start(flags?: readonly string[]): Promise<RunningServer>
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

/** Each has an S3 server of its own, where the storage is one. */
export async function createSite(
  contestant: Contestant,
  storage: Storage,
  s3Tool: S3Tool,
): Promise<Site> {
  await using owned = new AsyncDisposableStack()
  const folder = owned.use(await createTempFolder())
  const data = join(folder.path, 'data')
  await mkdir(data)
  const s3 = storage === 's3' ? owned.use(await startS3(s3Tool)) : undefined
  // What earlier runs left to be written must not slow down this one.
  await execa('sync', ['-f', folder.path])
  const stack = owned.move()
  return {
    place: { folder: data, s3 },
    async start(flags) {
      if (contestant === 'dvcr') return stack.use(await startBenchDvcr(data, s3, flags))
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
