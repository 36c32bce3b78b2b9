import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { open, readFile, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import * as fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { CodedError } from '../core/errors.ts'
import { checkQcow2Complete } from './qcow2-check.ts'
import { parseQcow2Header } from './formats/qcow2-header.ts'
import { qemuImg, scratchFolder } from './qemu-oracle.ts'

const run = promisify(execFile)
const clusterSize = 65_536
/** Text, zeros, noise and an end inside a cluster. */
const content = Buffer.concat([
  Buffer.from('compressible '.repeat(30_000)),
  Buffer.alloc(1_000_000),
  randomBytes(400_000),
]).subarray(0, 1_500_160)

function check(file: Buffer): Promise<{ allocatedClusters: number }> {
  return checkQcow2Complete(parseQcow2Header(file.subarray(0, clusterSize)), {
    readAt: async (offset, length) => {
      if (offset + length > file.length) throw new Error('read beyond the end of the file')
      return file.subarray(offset, offset + length)
    },
    fileSize: file.length,
    signal: new AbortController().signal,
  })
}

async function verdict(file: Buffer): Promise<string> {
  try {
    await check(file)
    return 'accepted'
  } catch (error) {
    if (error instanceof CodedError) return `${error.code}: ${error.message}`
    throw error
  }
}

async function converted(...args: string[]): Promise<Buffer> {
  await using folder = await scratchFolder()
  await writeFile(folder.file('raw'), content)
  const paths = [folder.file('raw'), folder.file('qcow2')]
  await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...args, ...paths)
  return await readFile(folder.file('qcow2'))
}

describe('accepts what qemu-img writes and refuses it when cut', () => {
  test.each([
    ['plain', []],
    ['zlib', ['-c']],
    ['zstd', ['-c', '-o', 'compression_type=zstd']],
    ['version 2', ['-o', 'compat=0.10']],
    ['version 2, zlib', ['-c', '-o', 'compat=0.10']],
    ['clusters of 512', ['-o', 'cluster_size=512']],
    ['clusters of 512, zlib', ['-c', '-o', 'cluster_size=512']],
    ['clusters of 4 KiB, zlib', ['-c', '-o', 'cluster_size=4k']],
    ['clusters of 2 MiB', ['-o', 'cluster_size=2M']],
    ['clusters of 2 MiB, zlib', ['-c', '-o', 'cluster_size=2M']],
    ['lazy refcounts', ['-o', 'lazy_refcounts=on']],
    ['1-bit refcounts', ['-o', 'refcount_bits=1']],
    ['64-bit refcounts', ['-o', 'refcount_bits=64']],
    ['metadata preallocated', ['-o', 'preallocation=metadata']],
    ['fully preallocated', ['-o', 'preallocation=full']],
    ['written out of order', ['-W', '-m', '4']],
  ])('%s', async (_, args) => {
    const file = await converted(...args)
    expect(await verdict(file)).toBe('accepted')
    expect(await verdict(file.subarray(0, file.length / 2))).toMatch(/^IMAGE_INCOMPLETE/)
  })
})

test('counts the clusters that hold data', async () => {
  const dataClusters = Math.ceil(390_000 / clusterSize) + 2
  const { allocatedClusters } = await check(await converted('-c'))
  expect(allocatedClusters).toBeGreaterThanOrEqual(dataClusters)
  expect(allocatedClusters).toBeLessThanOrEqual(content.length / clusterSize)
})

test('refuses every length that loses mapped bytes', async () => {
  const file = await converted('-c')
  for (let size = 512; size < file.length; size += 4096) {
    expect(await verdict(file.subarray(0, size))).toMatch(/^IMAGE_INCOMPLETE/)
  }
  expect(await verdict(file.subarray(0, -1))).toMatch(/^IMAGE_INCOMPLETE/)
})

test('accepts images that were written to in place, and empty ones', async () => {
  await using folder = await scratchFolder()
  const path = folder.file('qcow2')
  for (const size of ['512', '10M', '1T']) {
    await qemuImg('create', '-q', '-f', 'qcow2', path, size)
    expect(await check(await readFile(path))).toEqual({ allocatedClusters: 0 })
  }
  const writes = ['-c', 'write 900G 4k', '-c', 'write 2M 512', '-c', 'write -z 5M 1M']
  await run('qemu-io', ['-f', 'qcow2', ...writes, path])
  expect(await check(await readFile(path))).toEqual({ allocatedClusters: 2 })
})

test('reads huge tables in pieces', async () => {
  await using folder = await scratchFolder()
  await qemuImg('create', '-q', '-f', 'qcow2', folder.file('qcow2'), '1P')
  await using file = await open(folder.file('qcow2'))
  const { size } = await file.stat()
  const head = Buffer.alloc(clusterSize)
  await file.read(head, 0, head.length, 0)
  let longest = 0
  const result = await checkQcow2Complete(parseQcow2Header(head), {
    readAt: async (offset, length) => {
      longest = Math.max(longest, length)
      const piece = Buffer.alloc(length)
      await file.read(piece, 0, length, offset)
      return piece
    },
    fileSize: size,
    signal: new AbortController().signal,
  })
  expect(result).toEqual({ allocatedClusters: 0 })
  expect(longest).toBeLessThanOrEqual(1024 * 1024)
})

describe('refuses hostile tables', () => {
  let plain: Buffer
  let l1: number
  let l2: number
  let refcountTable: number

  beforeAll(async () => {
    plain = await converted()
    const header = parseQcow2Header(plain)
    l1 = header.l1Offset
    refcountTable = header.refcountTableOffset
    l2 = Number(plain.readBigUInt64BE(l1) & 0xff_ff_ff_ff_ff_fe_00n)
  })

  const copied = 1n << 63n
  const compressed = 1n << 62n
  const farAway = 1n << 40n

  test.each([
    ['an L2 entry past the end', () => [l2, copied | farAway], /^IMAGE_INCOMPLETE: .*byte 0 ends/],
    ['a compressed cluster past the end', () => [l2, compressed | farAway], /^IMAGE_INCOMPLETE/],
    ['an unaligned cluster', () => [l2, copied | 0x90200n], /^IMAGE_UNSAFE: .*not aligned/],
    ['reserved L2 bits', () => [l2, copied | 0x9_00_02n], /^IMAGE_UNSAFE: .*reserved/],
    ['high reserved L2 bits', () => [l2, (1n << 56n) | 0x9_00_00n], /^IMAGE_UNSAFE: .*reserved/],
    ['data in the header', () => [l2, copied], /^IMAGE_UNSAFE: .*header/],
    ['zeros in the header', () => [l2, copied | 1n], /^IMAGE_UNSAFE: .*header/],
    ['data in the L1', () => [l2, copied | BigInt(l1)], /^IMAGE_UNSAFE: .*tables/],
    ['data in an L2', () => [l2, copied | BigInt(l2)], /^IMAGE_UNSAFE: .*tables/],
    ['zeros in an L2', () => [l2, copied | BigInt(l2) | 1n], /^IMAGE_UNSAFE: .*tables/],
    ['compressed data in the header', () => [l2, compressed | 512n], /^IMAGE_UNSAFE: .*tables/],
    ['compressed and copied', () => [l2, copied | compressed | 0x9_00_00n], /^IMAGE_UNSAFE/],
    ['an L1 entry past the end', () => [l1, copied | farAway], /^IMAGE_INCOMPLETE: .*L2 table/],
    ['an unaligned L2', () => [l1, copied | 0x90200n], /^IMAGE_UNSAFE: .*not aligned/],
    ['reserved L1 bits', () => [l1, copied | 0x9_00_01n], /^IMAGE_UNSAFE: .*L1 entry/],
    ['an L2 in the L1', () => [l1, copied | BigInt(l1)], /^IMAGE_UNSAFE: .*two of its tables/],
    ['a refcount block past the end', () => [refcountTable, farAway], /^IMAGE_INCOMPLETE/],
    ['reserved refcount bits', () => [refcountTable, 0x9_00_01n], /^IMAGE_UNSAFE: .*refcount/],
    ['refcounts in an L2', () => [refcountTable, BigInt(l2)], /^IMAGE_UNSAFE: .*two of its tables/],
  ] as [string, () => [number, bigint], RegExp][])('%s', async (_, change, message) => {
    const file = Buffer.from(plain)
    const [at, entry] = change()
    file.writeBigUInt64BE(entry, at)
    expect(await verdict(file)).toMatch(message)
  })

  test('an L2 table that is used twice', async () => {
    const file = Buffer.from(plain)
    file.writeUInt32BE(2, 36)
    file.copy(file, l1 + 8, l1, l1 + 8)
    expect(await verdict(file)).toMatch(/^IMAGE_UNSAFE: .*two of its tables/)
  })

  test('an L1 past the end', async () => {
    const file = Buffer.from(plain)
    file.writeBigUInt64BE(BigInt(file.length + clusterSize) & ~0xff_ffn, 40)
    expect(await verdict(file)).toMatch(/^IMAGE_INCOMPLETE: .*L1 table/)
  })

  test('any damage without a failure of its own', async () => {
    const places = [fc.nat(120), fc.nat(64).map((at) => at + l1), fc.nat(200).map((at) => at + l2)]
    const damage = fc.array(fc.tuple(fc.oneof(...places), fc.nat(255)), { maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(damage, async (bytes) => {
        const file = Buffer.from(plain)
        for (const [at, value] of bytes) file[at] = value
        expect(await verdict(file)).toMatch(/^(accepted|[A-Z_]+: )/)
      }),
    )
  })
})
