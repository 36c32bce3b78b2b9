import * as fc from 'fast-check'
import { beforeAll, expect, it } from 'vitest'
import { isNightly } from '../../test/e2e/nightly.ts'
import {
  debianFiles,
  makeDisk,
  makeExt,
  makeFat,
  makePartitioned,
  manyFiles,
  mib,
  peHeader,
} from '../../test/fixtures/made-disks.ts'
import { createDiskBytes, plainText } from './disk-bytes.ts'
import { findContents, type DiskContents } from './disk-contents.ts'

const numRuns = isNightly ? 20_000 : 60
const efi = { 'EFI/BOOT/BOOTX64.EFI': peHeader(0x8664) }
const disks = new Map<string, Buffer>()

beforeAll(async () => {
  const files = { ...debianFiles, ...manyFiles }
  disks.set('ext4', await makeExt(files, '-t ext4'))
  disks.set('ext2', await makeExt(files, '-t ext2 -b 1024'))
  disks.set('inline', await makeExt(debianFiles, '-t ext4 -O inline_data -I 256'))
  disks.set('FAT', await makeFat(efi, '-F 12', 2 * mib))
  disks.set('FAT32', await makeFat(efi, '-F 32 -s 1', 34 * mib))
  const iso = 'rm "$disk"; xorriso -as mkisofs -quiet -R -e e -no-emul-boot -o "$disk" "$tree"'
  const cd = { '.disk/info': 'Debian 12 amd64\n', e: disks.get('FAT') ?? '' }
  disks.set('CD', await makeDisk(iso, { files: cd }))
  const gpt = 'label: gpt\nstart=2048, size=4096, type=uefi\nstart=8192, size=32768, type=linux'
  const parts = [
    [mib, disks.get('FAT') ?? Buffer.of()],
    [4 * mib, disks.get('ext4') ?? Buffer.of()],
  ] as const
  disks.set('GPT', await makePartitioned(gpt, parts, 32 * mib))
  const dos =
    'label: dos\nstart=2048, size=4096, type=ef\nstart=8192, size=40960, type=5\nstart=10240, size=8192, type=83'
  disks.set('MBR', await makePartitioned(dos, parts, 32 * mib))
})

/** What is found, and what of the disk was read for it. */
async function look(disk: Buffer, size = disk.length) {
  const read: (readonly [start: number, end: number])[] = []
  const found = await findContents(
    createDiskBytes(async (offset, length) => {
      read.push([offset, offset + length])
      return disk.subarray(offset, offset + length)
    }, size),
  )
  return { found, read }
}

// oxlint-disable-next-line no-control-regex
const control = /[\0-\x1f\x7f-\x9f\u202a-\u202e]|\\u00/

/** What is wrong with an answer, whatever the disk: it ends up on somebody's terminal. */
function faultsOf({ found, read }: { found: DiskContents; read: readonly unknown[] }): string[] {
  return [
    ...(read.length <= 256 ? [] : [`${read.length} reads`]),
    ...(found.volumes.length <= 33 ? [] : [`${found.volumes.length} volumes`]),
    ...(control.test(JSON.stringify(found)) ? [JSON.stringify(found)] : []),
  ]
}

const names = ['ext4', 'ext2', 'inline', 'FAT', 'FAT32', 'CD', 'GPT', 'MBR']

it.each(names)(
  '%s: with any bytes changed where it is read, something is found or nothing',
  async (name) => {
    const disk = disks.get(name) ?? Buffer.of()
    const whole = await look(disk)
    expect(whole.found.architecture).toBe('amd64')
    const pages = whole.read
      .flatMap(([start, end]) =>
        Array.from({ length: (end - start) / 512 }, (_, at) => start + at * 512),
      )
      .filter((start) => disk.subarray(start, start + 512).some((byte) => byte !== 0))
    const change = fc.record({
      page: fc.constantFrom(...pages),
      at: fc.integer({ min: 0, max: 511 }),
      bytes: fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 8 }),
        fc.constantFrom(Buffer.alloc(4), Buffer.alloc(4, 0xff), Buffer.from([1, 0, 0, 0])),
      ),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 12 }), async (changes) => {
        const before = changes.map(({ page }) => Buffer.from(disk.subarray(page, page + 512)))
        for (const { page, at, bytes } of changes) disk.set(bytes.subarray(0, 512 - at), page + at)
        const faults = faultsOf(await look(disk))
        // The last first: one page may be there twice.
        for (const { page } of changes.toReversed()) disk.set(before.pop() ?? [], page)
        expect(faults).toEqual([])
      }),
      { numRuns },
    )
  },
)

it.each(names)('%s: cut off anywhere, or said to be of another size', async (name) => {
  const disk = disks.get(name) ?? Buffer.of()
  await fc.assert(
    fc.asyncProperty(
      fc.nat({ max: disk.length }),
      fc.oneof(fc.constant(undefined), fc.nat({ max: 4 * disk.length }), fc.constant(2 ** 52)),
      async (length, size) => {
        expect(faultsOf(await look(disk.subarray(0, length), size ?? length))).toEqual([])
      },
    ),
    { numRuns: Math.ceil(numRuns / 5) },
  )
})

it('a disk that cannot be read is one of which nothing is known', async () => {
  const broken = createDiskBytes(() => Promise.reject(new Error('gone')), 64 * mib)
  expect(await findContents(broken)).toEqual({
    partitionTable: undefined,
    volumes: [],
    firmware: [],
    architecture: undefined,
    os: undefined,
    hasCloudInit: undefined,
  })
})

it('no folder is read for ever: links in a ring', async () => {
  const folders = Object.fromEntries([1, 2, 3].map((at) => [`l${at}`, `-> l${(at % 3) + 1}/x`]))
  const files = { ...folders, 'etc/os-release': '-> /l1' }
  expect(faultsOf(await look(await makeExt(files, '-t ext4')))).toEqual([])
})

it('text of a disk is one line without control characters', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      expect(plainText(bytes) ?? 'none').not.toMatch(control)
    }),
  )
})
