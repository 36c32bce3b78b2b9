import { readFile } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { CodedError } from '../core/errors.ts'
import { checkEnd, detect, headBytes, tailBytes } from './detect.ts'
import { qemuImg, qemuVirtualSize, scratchFolder } from './qemu-oracle.ts'

const unknownLength = { length: undefined }

function image(size: number, ...parts: (readonly [number, string | Uint8Array])[]): Buffer {
  const bytes = Buffer.alloc(size)
  for (const [at, part] of parts) {
    bytes.set(typeof part === 'string' ? Buffer.from(part, 'latin1') : part, at)
  }
  return bytes
}

function iso(volumeBlocks: number): Buffer {
  const bytes = image(headBytes, [0x8000, '\x01CD001\x01'], [0x8800, '\xffCD001\x01'])
  bytes.writeUInt32LE(volumeBlocks, 0x8050)
  bytes.writeUInt16LE(2048, 0x8080)
  return bytes
}

function gpt(sectorSize: number, lastSector: bigint): Buffer {
  const bytes = image(headBytes, [450, '\xee'], [510, '\x55\xaa'], [sectorSize, 'EFI PART'])
  bytes.writeUInt32LE(92, sectorSize + 12)
  bytes.writeBigUInt64LE(lastSector, sectorSize + 32)
  const checksum = crc32(bytes.subarray(sectorSize, sectorSize + 92))
  bytes.writeUInt32LE(checksum, sectorSize + 16)
  return bytes
}

function failure(run: () => unknown): string {
  try {
    const answer = run()
    return typeof answer === 'string' ? `warning: ${answer}` : 'accepted'
  } catch (error) {
    if (error instanceof CodedError) return `${error.code}: ${error.message}`
    throw error
  }
}

const refusal = (head: Uint8Array): string => failure(() => detect(head, unknownLength))

/** The refusal, or the warning where `isProven`. */
function endRefusal(whole: Uint8Array, length = whole.length, isProven = false): string {
  const head = whole.subarray(0, headBytes)
  const detected = detect(head, unknownLength)
  const ends = { head, tail: whole.subarray(-tailBytes), length }
  return failure(() => checkEnd(detected, ends, { isProven }))
}

function endVerdict(whole: Uint8Array): string {
  const ends = { head: whole, tail: whole, length: whole.length }
  return failure(() =>
    checkEnd({ format: 'raw', virtualSize: undefined }, ends, { isProven: false }),
  )
}

test.each([
  ['qcow2', 'qcow2', []],
  ['vmdk', 'vmdk', ['-o', 'subformat=monolithicSparse']],
  ['vmdk', 'vmdk', ['-o', 'subformat=streamOptimized']],
  ['vdi', 'vdi', []],
  ['vhd', 'vpc', []],
  ['vhd', 'vpc', ['-o', 'force_size=on']],
] as const)('finds %s and its size as qemu-img does (-f %s %j)', async (format, qemuName, args) => {
  await using folder = await scratchFolder()
  const path = folder.file('disk')
  await qemuImg('create', '-q', '-f', qemuName, ...args, path, '201326592')
  const head = (await readFile(path)).subarray(0, headBytes)
  expect(detect(head, unknownLength)).toEqual({
    format,
    virtualSize: await qemuVirtualSize(path, qemuName),
  })
})

test('finds vhdx, whose size is behind the head', async () => {
  await using folder = await scratchFolder()
  await qemuImg('create', '-q', '-f', 'vhdx', folder.file('disk'), '200M')
  const head = (await readFile(folder.file('disk'))).subarray(0, headBytes)
  expect(detect(head, unknownLength)).toEqual({ format: 'vhdx', virtualSize: undefined })
})

test('takes what no format claims as raw, of the length rounded up to sectors', () => {
  expect(detect(image(512), { length: 1000 })).toEqual({ format: 'raw', virtualSize: 1024 })
  expect(detect(image(headBytes), unknownLength).virtualSize).toBeUndefined()
})

test('takes partition tables and file systems as contents', () => {
  expect(detect(gpt(512, 99n), unknownLength).format).toBe('raw')
  const fat = image(headBytes, [0, '\xeb\x3c\x90mkfs.fat'], [510, '\x55\xaa'])
  expect(detect(fat, unknownLength).format).toBe('raw')
  expect(detect(image(headBytes, [0x438, '\x53\xef']), unknownLength).format).toBe('raw')
  const bootCodeLikeLzma = image(headBytes, [0, '\x5d\0\0'], [510, '\x55\xaa'])
  expect(detect(bootCodeLikeLzma, unknownLength).format).toBe('raw')
})

test('takes an ISO with partition tables as an ISO', () => {
  const hybrid = iso(100)
  hybrid.set(gpt(512, 99n).subarray(0, 4096))
  expect(detect(hybrid, { length: 100 * 2048 })).toEqual({ format: 'iso', virtualSize: 204_800 })
})

test.each([
  ['qcow2 and ISO', [0, 'QFI\xfb']],
  ['vmdk and ISO', [0, 'KDMV']],
  ['vdi and ISO', [0x40, '\x7f\x10\xda\xbe']],
] as const)('refuses %s in one file', (_, part) => {
  const polyglot = iso(100)
  polyglot.set(Buffer.from(part[1], 'latin1'), part[0])
  expect(refusal(polyglot)).toMatch(/^IMAGE_UNSAFE: .*at once/)
})

test.each([
  ['nothing', image(0), /^FORMAT_UNKNOWN: the source is empty/],
  ['100 bytes', image(100), /^FORMAT_UNKNOWN: .*100 bytes: too short/],
  ['a login page', Buffer.from(`<!DOCTYPE html><p>${'x'.repeat(900)}`), /^FORMAT_UNKNOWN: .*HTML/],
  ['a short page', Buffer.from('\n <HTML><body>no'), /^FORMAT_UNKNOWN: .*HTML page.*direct/],
  ['a page with a BOM', Buffer.from('\ufeff<html lang="de">'), /^FORMAT_UNKNOWN: .*HTML/],
  ['JSON', Buffer.from('{"error":"not found"}'), /^FORMAT_UNKNOWN: .*JSON/],
  ['XML', Buffer.from('<?xml version="1.0"?><Error/>'), /^FORMAT_UNKNOWN: .*XML/],
  ['OVF', Buffer.from('<?xml version="1.0"?><Envelope/>'), /^FORMAT_UNSUPPORTED: .*OVF/],
  ['text', Buffer.from('größe '.repeat(200)), /^FORMAT_UNKNOWN: .*a text file/],
  ['a padded VMDK descriptor', image(1024, [0, '# Disk DescriptorFile\n']), /VMDK descriptor/],
  ['a bare VMDK descriptor', Buffer.from('#x\n\nversion=1\n'), /^FORMAT_UNSUPPORTED: .*VMDK/],
  ['qcow 1', image(1024, [0, 'QFI\xfb\0\0\0\x01']), /^FORMAT_UNSUPPORTED: .*version 1/],
  ['a vmdk of version 0', image(1024, [0, 'KDMV']), /^FORMAT_UNSUPPORTED: .*version is 0/],
  ['a vdi of version 0', image(1024, [0x40, '\x7f\x10\xda\xbe']), /^FORMAT_UNSUPPORTED: .*version/],
])('refuses %s', (_, head, message) => {
  expect(refusal(head)).toMatch(message)
})

test.each([
  ['gzip', 0, '\x1f\x8b\x08'],
  ['xz', 0, '\xfd7zXZ\0'],
  ['zstd', 0, '\x28\xb5\x2f\xfd'],
  ['zip', 0, 'PK\x03\x04'],
  ['7z', 0, '7z\xbc\xaf\x27\x1c'],
  ['rar', 0, 'Rar!\x1a\x07'],
  ['tar', 257, 'ustar'],
  ['bzip2', 0, 'BZh91AY&SY'],
  ['lz4', 0, '\x04\x22\x4d\x18'],
  ['lzma', 0, '\x5d\0\0'],
  ['.Z', 0, '\x1f\x9d'],
  ['COWD', 0, 'COWD'],
  ['seSparse', 0, '\xbe\xba\xfe\xca\0\0\0\0'],
  ['QED', 0, 'QED\0'],
  ['Parallels', 0, 'WithoutFreeSpace'],
  ['Bochs', 0, 'Bochs Virtual HD Image'],
  ['cloop', 0, '#!/bin/sh\n#V2.0 Format\n'],
  ['LUKS', 0, 'LUKS\xba\xbe\0\x01'],
])('refuses %s as unsupported, naming it', (name, at, magic) => {
  expect(refusal(image(headBytes, [at, magic]))).toMatch(
    new RegExp(`^FORMAT_UNSUPPORTED: .*${name.replace('.', '\\.')}`, 'i'),
  )
})

test('refuses a footer that makes a raw disk a VHD or a dmg', () => {
  const size = 128 * 1024
  expect(endRefusal(image(size))).toBe('accepted')
  expect(endRefusal(image(size, [size - 512, 'conectix']))).toMatch(/^FORMAT_UNSUPPORTED: .*VHD/)
  expect(endRefusal(image(size, [size - 511, 'conectix']))).toMatch(/^FORMAT_UNSUPPORTED: .*VHD/)
  expect(endRefusal(image(size, [size - 512, 'koly']))).toMatch(/^FORMAT_UNSUPPORTED: .*dmg/)
  expect(endRefusal(image(size, [size - 1024, 'conectix']))).toBe('accepted')
})

test('refuses an ISO with the footer of another format', () => {
  const whole = Buffer.concat([iso(10), image(headBytes, [headBytes - 512, 'conectix'])])
  expect(endRefusal(whole)).toMatch(/^IMAGE_UNSAFE: .*iso and vhd/)
})

test('refuses an ISO that is shorter than its volume, and warns where it was made so', () => {
  expect(endRefusal(iso(33), 33 * 2048)).toBe('accepted')
  expect(endRefusal(iso(34), 33 * 2048)).toMatch(/^IMAGE_INCOMPLETE: .*69632 bytes, only 67584/)
  expect(endRefusal(iso(34), 33 * 2048, true)).toMatch(/^warning: the ISO is not whole/)
})

test.each([512, 4096])(
  'refuses a raw disk that ends before its GPT, and warns where it was made so (%i-byte sectors)',
  (sector) => {
    const whole = Buffer.concat([gpt(sector, 999n), Buffer.alloc(1000 * sector - headBytes)])
    expect(endRefusal(whole)).toMatch(/^IMAGE_INCOMPLETE: .*second header .* is missing/)
    expect(endRefusal(whole, whole.length, true)).toMatch(/^warning: .*is missing/)
    whole.write('EFI PART', 999 * sector, 'latin1')
    expect(endRefusal(whole)).toBe('accepted')
    expect(endRefusal(whole.subarray(0, -1))).toMatch(/^IMAGE_INCOMPLETE: .*GPT/)
    expect(endRefusal(whole.subarray(0, -1), undefined, true)).toMatch(/^warning: .*GPT/)
    // Where a longer disk has it has passed: nobody can tell.
    expect(endRefusal(Buffer.concat([whole, Buffer.alloc(tailBytes)]))).toBe('accepted')
    whole[sector + 40] = 1
    expect(endRefusal(whole.subarray(0, 10 * sector))).toBe('accepted')
  },
)

test('answers for any bytes with a format or a coded error', () => {
  const starts = ['', 'QFI\xfb\0\0\0\x03', 'KDMV', 'conectix', 'vhdxfile', '<', '#']
  fc.assert(
    fc.property(
      fc.constantFrom(...starts),
      fc.uint8Array({ maxLength: 2048 }),
      fc.option(fc.nat(), { nil: undefined }),
      (start, bytes, length) => {
        const head = Buffer.concat([Buffer.from(start, 'latin1'), bytes])
        expect(failure(() => detect(head, { length }))).toMatch(/^(accepted|[A-Z_]+: )/)
        expect(endVerdict(head)).toMatch(/^(accepted|[A-Z_]+: )/)
      },
    ),
  )
})
