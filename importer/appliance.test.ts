import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createHashPool, type HashPool } from '../core/hash-pool.ts'
import { chunked, chunkSizes, collect, noise } from '../test/fixtures/chunks.ts'
import { refusalIn } from '../test/fixtures/refusal.ts'
import { tarOf } from '../test/fixtures/tars.ts'
import { unpackAppliance } from './appliance.ts'

let hashPool: HashPool
beforeAll(() => {
  hashPool = createHashPool({ threads: 1 })
})
afterAll(() => hashPool[Symbol.asyncDispose]())

type File = readonly [name: string, contents: Buffer]

const archiveOf = (files: readonly File[]): Promise<Buffer> =>
  tarOf(files.map(([name, contents]) => ({ name, contents })))

async function unpack(bytes: Uint8Array, sizes: readonly number[] = [700]) {
  const { body, length } = await unpackAppliance(chunked(bytes, sizes), {
    hashPool,
    maxVirtualSize: 2 ** 40,
  })
  return { bytes: await collect(body), length }
}

const disk = noise(20_000)
const ovf: File = ['box.ovf', Buffer.from('<Envelope/>')]
const manifest = (algorithm: string, contents: Uint8Array): File => [
  'box.mf',
  Buffer.from(
    `SHA256(box.ovf)= 00\r\n${algorithm.toUpperCase()} (box-disk1.vmdk) = ${createHash(algorithm).update(contents).digest('hex')}\r\n`,
  ),
]
const vmdk = (contents: Buffer = disk): File => ['box-disk1.vmdk', contents]

test('the one disk of an OVA comes out, for any chunking', async () => {
  const ova = await archiveOf([ovf, manifest('sha256', disk), vmdk(), ['box.nvram', noise(9000)]])
  await fc.assert(
    fc.asyncProperty(chunkSizes(3000), async (sizes) => {
      expect(await unpack(ova, sizes)).toEqual({ bytes: disk, length: disk.length })
    }),
    { numRuns: 30 },
  )
})

test('a compressed disk is unwrapped', async () => {
  const ova = await archiveOf([ovf, ['box-disk1.vmdk.gz', gzipSync(disk)]])
  expect(await unpack(ova)).toEqual({ bytes: disk, length: undefined })
})

test.each(['sha1', 'sha256', 'sha512'])(
  'a disk is compared with the %s of its manifest',
  async (algorithm) => {
    expect(
      await refusalIn(unpack(await archiveOf([ovf, manifest(algorithm, disk), vmdk()]))),
    ).toBeUndefined()
    const wrong = await archiveOf([ovf, manifest(algorithm, noise(5)), vmdk()])
    expect(await refusalIn(unpack(wrong))).toBe('CHECKSUM_MISMATCH')
  },
)

test.each<[string, File[], string]>([
  ['no disk', [ovf, ['readme.txt', Buffer.from('x')]], 'FORMAT_UNSUPPORTED'],
  ['two disks', [ovf, vmdk(), ['box-disk2.vmdk', disk]], 'FORMAT_UNSUPPORTED'],
  ['a manifest without end', [ovf, ['box.mf', noise(2_000_000)], vmdk()], 'FORMAT_UNSUPPORTED'],
])('an OVA with %s is refused', async (_what, files, code) => {
  expect(await refusalIn(unpack(await archiveOf(files)))).toBe(code)
})

test('an OVA that was cut off is refused', async () => {
  const ova = await archiveOf([ovf, vmdk()])
  const inDisk = fc.integer({ min: 2000, max: disk.length })
  await fc.assert(
    fc.asyncProperty(inDisk, async (end) => {
      expect(await refusalIn(unpack(ova.subarray(0, end)))).toBe('IMAGE_INCOMPLETE')
    }),
    { numRuns: 20 },
  )
})

test('anything else goes through as it is', async () => {
  const tar = await archiveOf([['disk.raw', disk]])
  for (const bytes of [tar, disk, Buffer.alloc(2000), Buffer.from('x'), Buffer.of()]) {
    expect(await unpack(bytes)).toEqual({ bytes, length: undefined })
  }
})
