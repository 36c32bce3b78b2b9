import { readFile } from 'node:fs/promises'
import * as fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { CodedError } from '../../core/errors.ts'
import { parseQcow2Header } from './qcow2-header.ts'
import { qemuImg, scratchFolder } from '../qemu-oracle.ts'

const heads: Record<string, Buffer> = {}

beforeAll(async () => {
  await using folder = await scratchFolder()
  for (const compat of ['0.10', '1.1']) {
    const path = folder.file(compat)
    await qemuImg('create', '-q', '-f', 'qcow2', '-o', `compat=${compat}`, path, '1G')
    heads[compat] = (await readFile(path)).subarray(0, 64 * 1024)
  }
})

function changed(change: (head: Buffer) => void, compat = '1.1'): Buffer {
  const head = Buffer.from(heads[compat] ?? [])
  change(head)
  return head
}

function verdict(head: Uint8Array): string {
  try {
    parseQcow2Header(head)
    return 'accepted'
  } catch (error) {
    if (error instanceof CodedError) return `${error.code}: ${error.message}`
    throw error
  }
}

test('reads the fields of versions 2 and 3', () => {
  const common = {
    clusterBits: 16,
    clusterSize: 65_536,
    virtualSize: 2 ** 30,
    l1Size: 2,
    l1Offset: 196_608,
    refcountTableOffset: 65_536,
    refcountTableClusters: 1,
    refcountBits: 16,
    compressionType: 'zlib',
    hasLazyRefcounts: false,
    compatibleFeatures: 0n,
    autoclearFeatures: 0n,
    l2EntryBytes: 8,
    unclean: undefined,
  }
  expect(parseQcow2Header(changed(() => {}))).toEqual({ version: 3, headerLength: 112, ...common })
  expect(parseQcow2Header(changed(() => {}, '0.10'))).toEqual({
    version: 2,
    headerLength: 72,
    ...common,
  })
})

test('accepts unknown compatible and autoclear features and bitmaps', () => {
  expect(verdict(changed((head) => head.fill(0xff, 80, 96)))).toBe('accepted')
  expect(verdict(changed((head) => head.writeUInt32BE(0x23_85_28_75, 112)))).toBe('accepted')
})

const u32 = (at: number, value: number) => (head: Buffer) => head.writeUInt32BE(value, at)
const u64 = (at: number, value: bigint) => (head: Buffer) => head.writeBigUInt64BE(value, at)

test.each([
  ['snapshots', u32(60, 3), 'it holds 3 internal snapshots'],
  ['a dirty bit', u64(72, 1n), 'it was not closed cleanly (dirty bit)'],
])('reads an image with %s and says that nodes should not', (_, change, unclean) => {
  expect(parseQcow2Header(changed(change))).toMatchObject({ unclean })
})

describe('refuses', () => {
  test.each([
    ['version 4', u32(4, 4), /^FORMAT_UNSUPPORTED: .*version 4/],
    ['an encrypted image', u32(32, 1), /^FORMAT_UNSUPPORTED: .*encrypted/],
    ['LUKS without its extension', u32(32, 2), /^FORMAT_UNSUPPORTED: .*encrypted/],
    ['a corrupt image', u64(72, 2n), /^IMAGE_UNSAFE: .*corrupt/],
    ['a data file', u64(72, 4n), /^IMAGE_UNSAFE: .*external data file/],
    ['the compression bit alone', u64(72, 8n), /^IMAGE_UNSAFE: .*compression/],
    [
      'extended L2 of small clusters',
      (head: Buffer) => (u64(72, 16n)(head), u32(20, 13)(head)),
      /^IMAGE_UNSAFE: .*cluster_bits is 13/,
    ],
    ['an unknown feature', u64(72, 32n), /^FORMAT_UNSUPPORTED: .*0x20/],
    ['a high unknown feature', u64(72, 1n << 63n), /^FORMAT_UNSUPPORTED: .*unknown/],
    ['compression type 1 without bit', (head: Buffer) => head.writeUInt8(1, 104), /^IMAGE_UNSAFE/],
    ['compression type 2', (head: Buffer) => head.writeUInt8(2, 104), /^FORMAT_UNS.*type 2/],
    ['cluster_bits 8', u32(20, 8), /^IMAGE_UNSAFE: .*cluster_bits is 8/],
    ['cluster_bits 22', u32(20, 22), /^IMAGE_UNSAFE: .*cluster_bits is 22/],
    ['cluster_bits 2^31', u32(20, 2 ** 31), /^IMAGE_UNSAFE: .*cluster_bits/],
    ['refcount_order 7', u32(96, 7), /^IMAGE_UNSAFE: .*refcount_order is 7/],
    ['header_length 96', u32(100, 96), /^IMAGE_UNSAFE: .*header_length/],
    ['header_length 105', u32(100, 105), /^IMAGE_UNSAFE: .*header_length/],
    ['a huge header_length', u32(100, 0xff_ff_ff_f8), /^IMAGE_UNSAFE: .*header_length/],
    ['size 0', u64(24, 0n), /^IMAGE_UNSAFE: .*virtual size is 0/],
    ['an odd size', u64(24, 1023n), /^IMAGE_UNSAFE: .*1023/],
    ['size 2^63', u64(24, 1n << 63n), /^IMAGE_UNSAFE: .*virtual size/],
    ['an L1 too small', u64(24, 1n << 31n), /^IMAGE_UNSAFE: .*2 entries.*needs 4/],
    ['a huge L1', u32(36, 0xff_ff_ff_ff), /^IMAGE_UNSAFE: .*L1/],
    ['an L1 in the header', u64(40, 0n), /^IMAGE_UNSAFE: .*L1 table is at byte 0/],
    ['an unaligned L1', u64(40, 196_609n), /^IMAGE_UNSAFE: .*L1 table is at/],
    ['an L1 beyond all files', u64(40, 1n << 60n), /^IMAGE_UNSAFE: .*L1 table is at/],
    ['an L1 on the refcount table', u64(40, 65_536n), /^IMAGE_UNSAFE: .*overlap/],
    ['an unaligned refcount table', u64(48, 65_537n), /^IMAGE_UNSAFE: .*refcount table is at/],
    ['no refcount table', u32(56, 0), /^IMAGE_UNSAFE: .*refcount table/],
    ['a huge refcount table', u32(56, 0xff_ff_ff_ff), /^IMAGE_UNSAFE: .*refcount table/],
    ['a data file name', u32(112, 0x44_41_54_41), /^IMAGE_UNSAFE: .*external data file/],
    ['an encryption extension', u32(112, 0x05_37_be_77), /^IMAGE_UNSAFE: .*encryption/],
    ['a huge extension', u32(116, 0x7f_ff_ff_ff), /^IMAGE_UNSAFE: .*extension/],
  ])('%s', (_, change, message) => {
    expect(verdict(changed(change))).toMatch(message)
  })

  test.each(['/etc/passwd', 'json:{"driver":"raw"}', 'nbd://host/x', '\x1b[31m\n'])(
    'the backing file %j and names it',
    (name) => {
      const head = changed((bytes) => {
        bytes.writeBigUInt64BE(600n, 8)
        bytes.writeUInt32BE(name.length, 16)
        bytes.write(name, 600, 'latin1')
      })
      expect(verdict(head)).toMatch(/^IMAGE_UNSAFE: .*backing file/)
      expect(verdict(head)).toContain(JSON.stringify(name))
    },
  )

  test('a backing file whose name is not there', () => {
    expect(verdict(changed(u64(8, (1n << 64n) - 1n)))).toMatch(/^IMAGE_UNSAFE: .*backing file/)
  })

  test('a header that is cut off', () => {
    for (const size of [0, 7, 8, 71, 100, 104, 111, 116]) {
      const whole = changed(() => {})
      expect(verdict(whole.subarray(0, size))).toMatch(/^IMAGE_INCOMPLETE/)
    }
  })

  test('extensions that go on behind the first 64 KiB', () => {
    const head = changed((bytes) => {
      bytes.writeUInt32BE(21, 20)
      bytes.writeUInt32BE(0x12_34_56_78, 112)
      bytes.writeUInt32BE(100_000, 116)
    })
    expect(verdict(head)).toMatch(/^IMAGE_UNSAFE: .*extensions/)
  })
})

test('answers for any damage with a header or a coded error', () => {
  const damage = fc.array(fc.tuple(fc.nat({ max: 900 }), fc.nat({ max: 255 })), { maxLength: 8 })
  fc.assert(
    fc.property(
      fc.constantFrom('0.10', '1.1'),
      damage,
      fc.nat({ max: 70_000 }),
      (compat, bytes, size) => {
        const head = changed((copy) => {
          for (const [at, value] of bytes) copy[at] = value
        }, compat)
        expect(verdict(head.subarray(0, size))).toMatch(/^(accepted|[A-Z_]+: )/)
      },
    ),
    { numRuns: 1000 },
  )
})
