import { execa } from 'execa'
import { randomFillSync } from 'node:crypto'
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bootSectorDisk } from '../fixtures/boot-sector.ts'
import { startDvcr } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { startCountingSource } from './counting-source.ts'
import { createImportsApi } from './imports-api.ts'
import { isNightly } from './nightly.ts'
import { createSeededRandom } from './seeded-random.ts'
import { readStoreFolder } from './store-folder.ts'

const MiB = 1024 * 1024
const diskBytes = (isNightly ? 2048 : 384) * MiB
/** Ten imports of five kills each, of every class. */
const seeds = Array.from({ length: isNightly ? 10 : 1 }, (_, index) => index + 1)
const killsPerImport = isNightly ? 5 : 3
const bytesPerSecond = 150 * MiB

/** What may come again after each death: the way to the next checkpoint, and what is in buffers. */
const classes = [
  { what: 'a raw disk from a server with ranges', file: 'disk.raw', again: 128 * MiB },
  { what: 'a qcow2 from a server with ranges', file: 'disk.qcow2', again: 128 * MiB },
  { what: 'a gzip, which is decoded from its start', file: 'disk.raw.gz', again: Infinity },
  {
    what: 'a raw disk from a server without ranges',
    file: 'disk.raw',
    again: Infinity,
    ranges: false,
  },
]

const owned = new AsyncDisposableStack()
let www: string
const layers = new Map<string, string>()

beforeAll(async () => {
  www = owned.use(await createTempFolder()).path
  const raw = join(www, 'disk.raw')
  {
    await using file = await open(raw, 'w')
    const piece = bootSectorDisk({ size: 16 * MiB })
    for (let at = 0; at < diskBytes; at += piece.length) {
      if (at > 0) randomFillSync(piece, 0, 10 * MiB)
      await file.write(piece)
    }
  }
  await execa('qemu-img', ['convert', '-O', 'qcow2', raw, join(www, 'disk.qcow2')])
  await execa('gzip', ['-1', '-k', raw])
  await using data = await createTempFolder()
  await using server = await startDvcr({ data: data.path })
  for (const file of ['disk.raw', 'disk.qcow2', 'disk.raw.gz']) {
    await using source = await startCountingSource(join(www, file), {
      ranges: true,
      bytesPerSecond: Infinity,
    })
    const { image } = await createImportsApi(server.url).run({ source: source.url, name: file })
    layers.set(file, image?.layerDigest ?? '')
  }
}, 600_000)
afterAll(() => owned.disposeAsync())

describe.each(classes)('$what', ({ file, again, ranges = true }) => {
  it.each(seeds)(
    'goes on after every kill -9 (seed %i)',
    async (seed) => {
      await using data = await createTempFolder()
      await using source = await startCountingSource(join(www, file), { ranges, bytesPerSecond })
      const random = createSeededRandom(seed)
      const { size } = await stat(join(www, file))
      const wholeMs = (size * 1000) / bytesPerSecond
      let id: string | undefined
      for (let kill = 0; kill < killsPerImport; kill++) {
        await using server = await startDvcr({ data: data.path })
        const imports = createImportsApi(server.url)
        id ??= (await imports.create({ source: source.url, name: 'crash' })).id
        await sleep((random() * wholeMs * 2) / killsPerImport)
        await server.kill9()
      }
      await using server = await startDvcr({ data: data.path })
      const record = await createImportsApi(server.url).finished(id ?? '')
      expect(record.error).toBeUndefined()
      expect(record.image?.layerDigest).toBe(layers.get(file))
      expect(source.sentBytes - size).toBeLessThan(killsPerImport * again)
      const after = await readStoreFolder(data.path)
      expect(after).toMatchObject({ broken: [], orphans: [], uploads: [], scratch: [] })
    },
    600_000,
  )
})
