import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import * as fc from 'fast-check'
import { afterAll, expect, it } from 'vitest'
import { headBytes } from './detect.ts'
import { parseQcow2Header } from './formats/qcow2-header.ts'
import { qemuImg, scratchFolder } from './qemu-oracle.ts'
import { readQcow2Guest } from './qcow2-guest.ts'

const kib = 1024
const raw = Buffer.alloc(8 * kib * kib + 512)
raw.fill('text of a disk ', 100_000, 900_000)
raw.set(randomBytes(400 * kib), 3_000_000)
raw.fill('the end', raw.length - 700)

const owned = new AsyncDisposableStack()
afterAll(() => owned.disposeAsync())

async function convert(options: readonly string[]): Promise<Buffer> {
  const scratch = owned.use(await scratchFolder())
  await writeFile(scratch.file('raw'), raw)
  const files = [scratch.file('raw'), scratch.file('qcow2')]
  await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...options, ...files)
  return readFile(scratch.file('qcow2'))
}

const readerOf = (image: Buffer) =>
  readQcow2Guest(parseQcow2Header(image.subarray(0, headBytes)), async (offset, length) =>
    image.subarray(offset, offset + length),
  )

it.each([
  [[]],
  [['-o', 'cluster_size=512']],
  [['-o', 'cluster_size=2M']],
  [['-o', 'compat=0.10']],
  [['-c']],
  [['-c', '-o', 'compression_type=zstd,cluster_size=4k']],
])('a qcow2 made with %j is read at any place', async (options) => {
  const read = readerOf(await convert(options))
  const range = fc.tuple(fc.nat({ max: raw.length }), fc.nat({ max: 300_000 }))
  await fc.assert(
    fc.asyncProperty(range, async ([start, size]) => {
      const length = Math.min(size, raw.length - start)
      const found = await read(start, length)
      expect(Buffer.compare(found, raw.subarray(start, start + length))).toBe(0)
    }),
    { numRuns: 30 },
  )
})

it('what is damaged is refused or read as something, in no more than its clusters', async () => {
  const image = await convert(['-c'])
  const changes = fc.array(fc.tuple(fc.nat({ max: image.length - 1 }), fc.nat({ max: 255 })), {
    minLength: 1,
    maxLength: 20,
  })
  await fc.assert(
    fc.asyncProperty(changes, async (bytes) => {
      const changed = Buffer.from(image)
      for (const [at, byte] of bytes) if (at >= 112) changed[at] = byte
      const found = await readerOf(changed)(0, 4 * kib * kib).catch(() => undefined)
      expect(found?.length ?? 4 * kib * kib).toBe(4 * kib * kib)
    }),
    { numRuns: 60 },
  )
})
