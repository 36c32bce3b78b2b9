import { open, readFile, stat, truncate } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { createSeededRandom } from '../test/e2e/seeded-random.ts'
import { createClusterPool } from './cluster-pool.ts'
import { headBytes } from './detect.ts'
import { readDisk, type MappedFormat } from './disk-reader.ts'
import { encodeExtents } from './extents-encoder.ts'
import { encodeInOrder, encodeQcow2 } from './qcow2-encoder.ts'
import type { EncodedQcow2 } from './qcow2-writer.ts'
import { mapRanged, type RangedFile } from './ranged-disk.ts'
import { qemuImg, scratchFolder } from './qemu-oracle.ts'

const mib = 1024 * 1024
const diskBytes = 80 * mib

interface Variant {
  readonly name: string
  readonly format: MappedFormat
  /** What qemu-img calls it. */
  readonly qemu: string
  readonly options: readonly string[]
}

const variant = (format: MappedFormat, qemu: string, ...options: readonly string[]): Variant => ({
  name: [format, ...options].join(' '),
  format,
  qemu,
  options,
})

const variants: readonly Variant[] = [
  variant('qcow2', 'qcow2'),
  variant('qcow2', 'qcow2', '-c'),
  variant('qcow2', 'qcow2', '-c', '-W', '-m', '8'),
  variant('qcow2', 'qcow2', '-W', '-m', '8'),
  variant('qcow2', 'qcow2', '-c', '-o', 'compression_type=zstd'),
  variant('qcow2', 'qcow2', '-o', 'compat=0.10'),
  variant('qcow2', 'qcow2', '-o', 'cluster_size=512'),
  variant('qcow2', 'qcow2', '-c', '-o', 'cluster_size=4k'),
  variant('qcow2', 'qcow2', '-o', 'cluster_size=2M'),
  variant('qcow2', 'qcow2', '-o', 'extended_l2=on,cluster_size=128k'),
  variant('qcow2', 'qcow2', '-o', 'preallocation=metadata'),
  variant('vmdk', 'vmdk'),
  variant('vmdk', 'vmdk', '-o', 'subformat=streamOptimized'),
  variant('vdi', 'vdi'),
  variant('vdi', 'vdi', '-o', 'static=on'),
  variant('vhd', 'vpc', '-o', 'force_size=on'),
  variant('vhdx', 'vhdx'),
  variant('vhdx', 'vhdx', '-o', 'subformat=fixed'),
  variant('vhdx', 'vhdx', '-o', 'block_size=32M'),
]

/** Noise, text and zeros in runs of any length and place. */
async function writeDisk(path: string, seed: number): Promise<void> {
  const random = createSeededRandom(seed)
  await using file = await open(path, 'w')
  for (let at = 0; at < diskBytes;) {
    const size = Math.min(diskBytes - at, 512 * (1 + Math.floor(random() * 4000)))
    const kind = random()
    if (kind < 0.3) {
      const bytes = Buffer.alloc(size)
      for (let byte = 0; byte < size; byte++) bytes[byte] = random() * 256
      await file.write(bytes, 0, size, at)
    } else if (kind < 0.5) {
      await file.write(Buffer.alloc(size, `text ${seed} `), 0, size, at)
    }
    at += size
  }
  await truncate(path, diskBytes)
}

async function* pieces(path: string, bytes: number): AsyncGenerator<Uint8Array, void> {
  const all = await readFile(path)
  for (let at = 0; at < all.length; at += bytes) yield all.subarray(at, at + bytes)
}

/** The file as a server with ranges has it, in chunks of an odd size that are used again. */
async function fileOf(path: string): Promise<RangedFile> {
  const all = await readFile(path)
  return {
    size: all.length,
    async *read({ start, end }) {
      const buffer = Buffer.alloc(70_001)
      for (let at = start; at < end; at += buffer.length) {
        const size = all.copy(buffer, 0, at, Math.min(end, at + buffer.length))
        yield buffer.subarray(0, size)
        buffer.fill(0xaa)
      }
    },
  }
}

async function rawOf(path: string, format: MappedFormat, spillFolder: string, chunk: number) {
  const head = (await readFile(path)).subarray(0, headBytes)
  const { signal } = new AbortController()
  const limits = { maxVirtualSize: 2 ** 40, mostSpillBytes: 2 ** 32, spillFolder, signal }
  const disk = readDisk(pieces(path, chunk), { format, head, ...limits })
  const raw = Buffer.alloc(diskBytes + mib)
  for await (const { guest, bytes } of disk.extents()) raw.set(bytes, guest)
  return raw.subarray(0, disk.virtualSize)
}

describe('a disk image is read in one pass', () => {
  it.each(variants)('$name', async ({ name, format, qemu, options }) => {
    await using scratch = await scratchFolder()
    const source = scratch.file('raw')
    await writeDisk(source, 1)
    const image = scratch.file('image')
    await qemuImg('convert', '-f', 'raw', '-O', qemu, ...options, source, image)
    const expected = scratch.file('back')
    await qemuImg('convert', '-f', qemu, '-O', 'raw', image, expected)
    const folder = scratch.file('.')
    const want = await readFile(expected)
    for (const chunk of [mib, 10_007]) {
      const raw = await rawOf(image, format, folder, chunk)
      expect(raw.length).toBe((await stat(expected)).size)
      expect(raw.equals(want)).toBe(true)
    }

    await using pool = createClusterPool({ threads: 1 })
    const { signal } = new AbortController()
    const encode = async (
      how: (write: (bytes: Uint8Array) => Promise<void>) => Promise<EncodedQcow2>,
    ) => {
      const data: Buffer[] = []
      await using encoded = await how(async (bytes) => void data.push(Buffer.from(bytes)))
      const head: Buffer[] = []
      for await (const bytes of encoded.metadata()) head.push(Buffer.from(bytes))
      return { file: Buffer.concat([...head, ...data]), digest: encoded.contentDigest }
    }
    const common = { pool, signal, spillFolder: folder, maxVirtualSize: 2 ** 40 }
    const head = (await readFile(image)).subarray(0, headBytes)
    const direct = await encode((write) => encodeQcow2(pieces(expected, mib), { ...common, write }))
    const mapped = await encode((write) =>
      encodeExtents(
        readDisk(pieces(image, mib), { format, head, mostSpillBytes: 2 ** 32, ...common }),
        { ...common, write },
      ),
    )
    expect(mapped.digest).toBe(direct.digest)
    expect(mapped.file.equals(direct.file)).toBe(true)

    const ranged = await mapRanged(await fileOf(image), { format, head, ...common })
    // What has its tables among its data is read in one pass, and so may be what was written in
    // any order.
    const isOnePass = name.includes('streamOptimized')
    expect(name.includes('-W') || (ranged === undefined) === isOnePass).toBe(true)
    if (!ranged) return
    const { virtualSize } = ranged
    const inOrder = await encode((write) =>
      encodeInOrder(ranged.extents(0), { ...common, write, end: virtualSize }),
    )
    expect(inOrder.file.equals(direct.file)).toBe(true)
    // Any place in the middle gives the rest.
    const raw = Buffer.alloc(virtualSize)
    const middle = 8 * mib
    for await (const { guest, bytes } of ranged.extents(middle)) raw.set(bytes, guest)
    expect(raw.subarray(middle).equals(want.subarray(middle))).toBe(true)
    expect(ranged.bytesFrom(middle)).toBeLessThan(ranged.bytesFrom(0))
  })
})
