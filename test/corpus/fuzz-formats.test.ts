import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createHashPool, type HashPool } from '../../core/hash-pool.ts'
import { fuzzMs, fuzzSeed, rssLimitBytes } from '../e2e/fuzz-run.ts'
import { createSeededRandom } from '../e2e/seeded-random.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { corpus } from './corpus.ts'
import { mutated } from './mutations.ts'
import { readByTables, readImage, type Read } from './read-image.ts'
import { isSameDisk, rawBy } from './stored-disk.ts'
import { mib, openWorkshop } from './workshop.ts'

const maxVirtualSize = 16 * mib
/** At night ten minutes. */
const budgetMs = fuzzMs / 2
/** Wrapped, or only as it came. */
const unread = /\.(?:gz|xz|zst|bz2|lz4)$|^inflates-too-far/
/** What qemu-img calls it. */
const qemuNames: Readonly<Record<string, string>> = {
  qcow2: 'qcow2',
  vmdk: 'vmdk',
  vdi: 'vdi',
  vhd: 'vpc',
  vhdx: 'vhdx',
}

const owned = new AsyncDisposableStack()
let hashPool: HashPool
let scratchFolder: string
const seeds: { readonly name: string; readonly image: Buffer }[] = []

beforeAll(async () => {
  hashPool = owned.use(createHashPool())
  scratchFolder = owned.use(await createTempFolder()).path
  await using workshop = await openWorkshop()
  for (const { name, make, verdict } of Object.values(corpus).flat()) {
    if (unread.test(name) || verdict.kind === 'refused') continue
    seeds.push({ name, image: await make(workshop) })
  }
})
afterAll(() => owned.disposeAsync())

const read = (image: Buffer, chunk: number): Promise<Read> =>
  readImage(image, { hashPool, scratchFolder, maxVirtualSize, chunk })

/** Where qemu-img reads the image as that format too, it is the same disk. */
async function disagreement(image: Buffer, found: Read): Promise<string | undefined> {
  if ('code' in found) return undefined
  const format = qemuNames[found.format]
  if (format === undefined) return undefined
  const theirs = await rawBy(format, image).catch(() => undefined)
  return !theirs || isSameDisk(theirs, found.disk) ? undefined : `another disk in ${found.format}`
}

/** Both are refused, or both are the same disk. */
function isSameRead(a: Read, b: Read): boolean {
  if ('code' in a || 'code' in b) return 'code' in a && 'code' in b
  return a.disk.equals(b.disk)
}

it('every good file of the corpus is read, and as qemu-img reads it', async () => {
  for (const { name, image } of seeds) {
    const found = await read(image, 65_536)
    expect({ name, code: 'code' in found ? found.code : undefined }).toEqual({ name })
    const why = name.endsWith('.ova') ? undefined : await disagreement(image, found)
    expect({ name, why }).toEqual({ name })
  }
})

it(
  `any change of them is refused or read, the same in any chunks and as qemu-img reads it (DVCR_FUZZ_SEED=${fuzzSeed})`,
  async () => {
    const random = createSeededRandom(fuzzSeed)
    const before = process.memoryUsage().rss
    const end = performance.now() + budgetMs
    const counts = { changed: 0, read: 0, compared: 0 }
    const failures: string[] = []
    while (performance.now() < end && failures.length === 0) {
      const seed = seeds[Math.floor(random() * seeds.length)]
      if (!seed) throw new Error('no seeds')
      const image = mutated(seed.image, random)
      counts.changed++
      const told = `${seed.name}, change ${counts.changed}`
      const keep = async (why: string): Promise<void> => {
        const path = join(tmpdir(), `dvcr-fuzz-${fuzzSeed}-${counts.changed}-${seed.name}`)
        await writeFile(path, image)
        failures.push(`${told}: ${why}; kept as ${path}`)
      }
      const readOrKeep = (chunk: number): Promise<Read> =>
        read(image, chunk).catch(async (error: unknown) => {
          await keep(String(error))
          return { code: 'failed' }
        })
      const found = await readOrKeep(65_536)
      const again = await readOrKeep(500 + Math.floor(random() * mib))
      if (!isSameRead(found, again)) await keep('another answer for other chunks')
      if (!seed.name.endsWith('.ova')) {
        const options = { maxVirtualSize, chunk: 1000 + Math.floor(random() * 100_000) }
        const byTables = await readByTables(image, options).catch(async (error: unknown) => {
          await keep(`by its tables: ${String(error)}`)
          return undefined
        })
        if (byTables && !isSameRead(found, byTables)) await keep('another answer by its tables')
      }
      if ('code' in found) continue
      counts.read++
      if (seed.name.endsWith('.ova')) continue
      const why = await disagreement(image, found)
      if (why !== undefined) await keep(why)
      counts.compared++
    }
    expect(failures).toEqual([])
    expect(counts.read).toBeGreaterThan(0)
    expect(counts.read).toBeLessThan(counts.changed)
    expect(process.memoryUsage().rss - before).toBeLessThan(rssLimitBytes)
  },
  10 * 60_000 + 2 * budgetMs,
)
