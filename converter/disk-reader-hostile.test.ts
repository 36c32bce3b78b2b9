import { readFile, writeFile } from 'node:fs/promises'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CodedError } from '../core/errors.ts'
import { isNightly } from '../test/e2e/nightly.ts'
import { headBytes } from './detect.ts'
import { readDisk, type MappedFormat } from './disk-reader.ts'
import { qemuImg, qemuIo, scratchFolder } from './qemu-oracle.ts'

const mib = 1024 * 1024
const diskBytes = 8 * mib

interface Sample {
  readonly name: string
  readonly format: MappedFormat
  readonly image: Buffer
  readonly raw: Buffer
}

const kinds = [
  ['qcow2', 'qcow2', ['-o', 'cluster_size=4k']],
  ['qcow2', 'qcow2', ['-c']],
  ['qcow2', 'qcow2', ['-o', 'extended_l2=on']],
  ['vmdk', 'vmdk', []],
  ['vmdk', 'vmdk', ['-o', 'subformat=streamOptimized']],
  ['vdi', 'vdi', []],
  ['vhd', 'vpc', ['-o', 'force_size=on']],
  ['vhdx', 'vhdx', []],
] as const

const owned = new AsyncDisposableStack()
const samples: Sample[] = []
let spillFolder: string

beforeAll(async () => {
  const scratch = owned.use(await scratchFolder())
  spillFolder = scratch.file('.')
  for (const [format, qemu, options] of kinds) {
    const path = scratch.file(`${format}-${samples.length}`)
    const raw = Buffer.alloc(diskBytes)
    for (const start of [0, mib + 4096, 5 * mib]) raw.fill(`disk ${start} `, start, start + 700_000)
    await writeFile(scratch.file('raw'), raw)
    await qemuImg('convert', '-f', 'raw', '-O', qemu, ...options, scratch.file('raw'), path)
    samples.push({ name: [format, ...options].join(' '), format, image: await readFile(path), raw })
  }
})
afterAll(() => owned.disposeAsync())

async function* inChunks(bytes: Buffer, size: number): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function read(format: MappedFormat, image: Buffer, chunk: number): Promise<Buffer> {
  const options = {
    format,
    head: image.subarray(0, headBytes),
    maxVirtualSize: 64 * mib,
    mostSpillBytes: 64 * mib,
    spillFolder,
    signal: new AbortController().signal,
  }
  const disk = readDisk(inChunks(image, chunk), options)
  const raw = Buffer.alloc(64 * mib)
  for await (const { guest, bytes } of disk.extents()) {
    if (guest + bytes.length > raw.length) continue
    raw.set(bytes, guest)
  }
  return raw.subarray(0, Math.min(raw.length, disk.virtualSize))
}

/** The disk, or the refusal of it. */
async function outcome(format: MappedFormat, image: Buffer, chunk: number) {
  try {
    return await read(format, image, chunk)
  } catch (error) {
    if (error instanceof CodedError && error.status < 500) return error.code
    throw error
  }
}

const runs = { numRuns: isNightly ? 2000 : 25 }

describe('a damaged disk image', () => {
  it.each(kinds.map((kind, at) => ({ name: [kind[0], ...kind[2]].join(' '), at })))(
    '$name is refused or read, in any chunks',
    async ({ at }) => {
      const sample = samples[at]
      if (!sample) throw new Error('no sample')
      const { format, image, raw } = sample
      expect((await read(format, image, 65_536)).equals(raw)).toBe(true)
      const place = fc.nat({ max: image.length - 1 })
      const early = fc.nat({ max: Math.min(image.length, 512 * 1024) - 1 })
      const chunk = fc.integer({ min: 500, max: 2 * mib })
      await fc.assert(
        fc.asyncProperty(place, chunk, async (end, size) => {
          const found = await outcome(format, image.subarray(0, end), size)
          // Behind the last data nothing of the disk is missing.
          return !Buffer.isBuffer(found) || found.equals(raw)
        }),
        runs,
      )
      await fc.assert(
        fc.asyncProperty(
          fc.oneof(early, place),
          fc.nat({ max: 255 }),
          chunk,
          async (at, byte, size) => {
            const damaged = Buffer.from(image)
            damaged[at] = byte
            await outcome(format, damaged, size)
          },
        ),
        runs,
      )
    },
    600_000,
  )
})

describe('a qcow2 that a machine has used', () => {
  it('is read in its active state, with snapshots and data before its tables', async () => {
    await using scratch = await scratchFolder()
    const path = scratch.file('used')
    await writeFile(scratch.file('raw'), samples[0]?.raw ?? '')
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-c', scratch.file('raw'), path)
    await qemuIo(path, 'write -P 7 100k 300k', 'write -P 9 6M 1M')
    await qemuImg('snapshot', '-c', 'before', path)
    await qemuIo(
      path,
      'write -P 11 0 2M',
      'write -z 5M 512k',
      'discard 1M 64k',
      'write -P 13 7M 100k',
    )
    await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path, scratch.file('back'))
    const image = await readFile(path)
    const expected = await readFile(scratch.file('back'))
    for (const chunk of [mib, 7001]) {
      expect((await read('qcow2', image, chunk)).equals(expected)).toBe(true)
    }
  })
})
