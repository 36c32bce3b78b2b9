import { execa } from 'execa'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { mediaTypes } from '../../core/manifest.ts'
import { dvcrProgram, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { jobs } from './registry-load-jobs.ts'
import { manifestConfig } from './registry-load-small.ts'
import type { Load } from './registry-load.ts'
import {
  defineScenario,
  formatSize,
  gibibytes,
  mebibytes,
  megabytesPerSecond,
} from './registry-scenario.ts'

const largeShare = 4
const imageShare = 64
const imagesPerRepository = 16
const repositories = ['backup/a', 'backup/b', 'backup/c']
const busy = 'backup/busy'
const busyShare = 256
/** Where the export takes longer than that many pushes, the rest of it is quiet. */
const mostBusy = 256
const none = { folder: { atMost: 0 }, s3: { atMost: 0 } }

/** A whole store out of a server at work, and into an empty one. */
export const backup = defineScenario({
  name: 'backup',
  title: (size) =>
    `export of ${formatSize(size)} while images of ${formatSize(size / busyShare)} are pushed, import into an empty store`,
  storages: ['folder', 's3'],
  contestants: ['dvcr'],
  metrics: {
    findings: { label: 'errors that fsck finds in the copy', unit: 'things', gates: none },
    differing: { label: 'tags that differ in the copy', unit: 'things', gates: none },
    export: { label: 'export', unit: 'MB/s' },
    exportCpu: { label: 'export, CPU of the server and pushes', unit: 's/GiB' },
    exportRss: { label: 'export, memory', unit: 'MiB' },
    pushes: { label: 'pushes meanwhile', unit: 'MB/s' },
    import: { label: 'import', unit: 'MB/s' },
    importCpu: { label: 'import, CPU', unit: 's/GiB' },
    importRss: { label: 'import, memory', unit: 'MiB' },
  },
  async run({ site, server, load, size, newSite }) {
    await fill(server, load, size)
    const before = await readTags(server.url)
    await using folder = await createTempFolder()
    const archive = join(folder.path, 'backup.tar')

    const images = { url: server.url, name: busy, size: size / busyShare, seed: 'busy' }
    const many = { from: 0, to: mostBusy, connections: 1 }
    const pushing = load.run(jobs.pushImages, { ...images, ...many })
    const started = performance.timeOrigin + performance.now()
    const exported = await site.measure(server, () => registry(server, 'export', '--to', archive))
    await load.run(jobs.stopImages, {})
    const pushed = (await pushing).at.filter((at) => at <= started + exported.ms).length
    const archiveBytes = (await stat(archive)).size

    await using other = await newSite()
    const copy = await other.start()
    const imported = await other.measure(copy, async () => {
      await registry(copy, 'import', '--from', archive)
      await other.sync()
    })
    const source = await readTags(server.url)
    const copied = await readTags(copy.url)
    const missing = [...before.keys()].filter((name) => !copied.has(name))
    const different = [...copied].filter(([name, digest]) => source.get(name) !== digest)
    return {
      findings: await countFindings(copy),
      differing: missing.length + different.length,
      export: megabytesPerSecond(archiveBytes, exported.ms),
      exportCpu: exported.cpuMs / 1000 / gibibytes(archiveBytes),
      exportRss: mebibytes(exported.rssBytes),
      pushes: megabytesPerSecond((pushed * size) / busyShare, exported.ms),
      import: megabytesPerSecond(archiveBytes, imported.ms),
      importCpu: imported.cpuMs / 1000 / gibibytes(archiveBytes),
      importRss: mebibytes(imported.rssBytes),
    }
  },
})

/** One large image and many smaller ones in a few repositories. */
async function fill({ url }: RunningServer, load: Load, size: number): Promise<void> {
  const push = async (name: string, to: number, bytes: number): Promise<void> => {
    await load.run(jobs.push, { url, name, ...manifestConfig, count: 1 })
    const images = { url, name, size: bytes, seed: name.replace('/', '-'), from: 0, to }
    await load.run(jobs.pushImages, { ...images, connections: 4 })
  }
  await push('backup/large', 1, size / largeShare)
  for (const name of repositories) await push(name, imagesPerRepository, size / imageShare)
  await push(busy, 1, size / busyShare)
}

async function registry({ url }: RunningServer, ...args: readonly string[]): Promise<void> {
  await execa(dvcrProgram, ['registry', ...args, '--server', url])
}

/** Errors that a look at everything, all bytes included, finds. */
async function countFindings({ url }: RunningServer): Promise<number> {
  const args = ['registry', 'fsck', '--data-digests', '--json', '--server', url]
  const { stdout } = await execa(dvcrProgram, args, { reject: false })
  return z.object({ errors: z.number() }).parse(JSON.parse(stdout)).errors
}

/** `name:tag` of everything, with the digest it points to. */
async function readTags(url: string): Promise<ReadonlyMap<string, string>> {
  const ask = async (method: string, path: string): Promise<Response> => {
    const response = await fetch(url + path, {
      method,
      headers: { accept: mediaTypes.ociManifest },
    })
    if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status}`)
    return response
  }
  const catalog = z.object({ repositories: z.array(z.string()) })
  const listing = z.object({ tags: z.array(z.string()) })
  const found = new Map<string, string>()
  const names = catalog.parse(await (await ask('GET', '/v2/_catalog')).json())
  for (const name of names.repositories) {
    const { tags } = listing.parse(await (await ask('GET', `/v2/${name}/tags/list`)).json())
    for (const tag of tags) {
      const { headers } = await ask('HEAD', `/v2/${name}/manifests/${tag}`)
      found.set(`${name}:${tag}`, headers.get('docker-content-digest') ?? '')
    }
  }
  return found
}
