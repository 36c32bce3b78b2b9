import { crc32 } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import {
  debianFiles,
  elfHeader,
  makeDisk,
  makeExt,
  makeFat,
  makePartitioned,
  manyFiles,
  mib,
  peHeader,
} from '../../test/fixtures/made-disks.ts'
import { bootSectorDisk } from '../../test/fixtures/boot-sector.ts'
import { createDiskBytes } from './disk-bytes.ts'
import { findContents } from './disk-contents.ts'

const look = (disk: Buffer) =>
  findContents(
    createDiskBytes(async (offset, length) => disk.subarray(offset, offset + length), disk.length),
  )

const debian = {
  os: { id: 'debian', version: '12', name: 'Debian GNU/Linux 12 (bookworm)' },
  architecture: 'amd64',
  hasCloudInit: true,
}

describe('the root of a system in an ext', () => {
  const dashed = { ...debianFiles, ...manyFiles }

  it.each([
    ['ext4', '-t ext4'],
    ['ext4', '-t ext4 -b 1024 -O ^64bit'],
    ['ext4', '-t ext4 -b 4096 -O inline_data -I 256'],
    ['ext4', '-t ext4 -b 1024 -O meta_bg,^resize_inode -g 1024'],
    ['ext4', '-t ext4 -O bigalloc,^metadata_csum'],
    ['ext3', '-t ext3 -b 1024'],
    ['ext2', '-t ext2 -b 1024 -I 128'],
    ['ext2', '-t ext2 -b 4096'],
  ])('%s, made by mke2fs %s', async (type, options) => {
    const found = await look(await makeExt(dashed, options))
    expect(found).toMatchObject({ ...debian, partitionTable: 'none', firmware: [] })
    expect(found.volumes).toEqual([
      {
        partition: undefined,
        start: 0,
        size: 16 * mib,
        fileSystem: { type, label: 'root', uuid: expect.stringMatching(/^[0-9a-f-]{36}$/) },
      },
    ])
  })

  it('whose folders are hashed', async () => {
    const make =
      'mke2fs -q -F -t ext4 -b 1024 -d "$tree" "$disk"; e2fsck -fyD "$disk" || [ $? = 1 ]'
    expect(await look(await makeDisk(make, { files: dashed }))).toMatchObject(debian)
  })

  it.each([['-t ext4 -b 1024'], ['-t ext2 -b 1024']])(
    'of which a file is in many pieces: %s',
    async (options) => {
      // Every other page is a hole, and what counts comes last.
      const pages = Array.from({ length: 14 }, (_, at) =>
        Buffer.alloc(4096, at % 2 === 0 ? '#\n' : 0),
      )
      const last = Buffer.from(`\nID="arch"\nPRETTY_NAME='It\\'s'\n`)
      const release = Buffer.concat([...pages, last])
      const make = `mkdir "$tree/etc"; cp --sparse=always "$tree/r" "$tree/etc/os-release"; mke2fs -q -F ${options} -d "$tree" "$disk"`
      const found = await look(await makeDisk(make, { files: { r: release } }))
      expect(found.os).toEqual({ id: 'arch', version: undefined, name: "It's" })
      expect(found).toMatchObject({ architecture: undefined, hasCloudInit: false })
    },
  )

  it('without a program to tell the machine, or with links that lead nowhere', async () => {
    const files = {
      'usr/lib/os-release': 'ID=x\n',
      'etc/os-release': '-> /etc/os-release',
      'bin/sh': '-> ../../../../usr/bin/../bin/dash',
      'usr/bin/dash': elfHeader(22, 64, 'big'),
    }
    const found = await look(await makeExt(files, '-t ext4'))
    expect(found).toMatchObject({ os: { id: 'x' }, architecture: 's390x', hasCloudInit: false })
    const none = await look(await makeExt({ 'home/file': 'x' }, '-t ext4'))
    expect(none).toMatchObject({ os: undefined, architecture: undefined, hasCloudInit: undefined })
  })
})

describe('what firmware starts', () => {
  const arm64 = { 'EFI/BOOT/BOOTAA64.EFI': peHeader(0xaa64) }

  it.each(['-F 12', '-F 16', '-F 32 -s 1'])('in a FAT made with %s', async (options) => {
    const esp = await makeFat({ ...arm64, 'a file with a long name.text': 'x' }, options, 40 * mib)
    const found = await look(esp)
    expect(found).toMatchObject({ firmware: ['uefi'], architecture: 'arm64' })
    expect(found.volumes[0]?.fileSystem).toEqual({ type: 'vfat', label: 'ESP', uuid: '1234-ABCD' })
  })

  it('the program says more than its name', async () => {
    const named = { 'efi/boot/bootx64.efi': peHeader(0x5064) }
    expect(await look(await makeFat(named))).toMatchObject({ architecture: 'riscv64' })
    const unread = { 'efi/boot/bootx64.efi': 'no program' }
    expect(await look(await makeFat(unread))).toMatchObject({ architecture: 'amd64' })
  })

  it('of two machines the one that runs both, or none', async () => {
    const both = {
      'EFI/BOOT/BOOTIA32.EFI': peHeader(0x14c),
      'EFI/BOOT/BOOTX64.EFI': peHeader(0x8664),
    }
    expect(await look(await makeFat(both))).toMatchObject({ architecture: 'amd64' })
    expect(await look(await makeFat({ ...both, ...arm64 }))).toMatchObject({
      architecture: undefined,
      firmware: ['uefi'],
    })
  })
})

describe('partitions', () => {
  it('of a GPT, of which the backup is enough', async () => {
    const esp = await makeFat({ 'EFI/BOOT/BOOTAA64.EFI': peHeader(0xaa64) })
    const table = [
      'label: gpt',
      'start=2048, size=32768, type=uefi, name="ESP \u202e\u001b[31m"',
      'start=40960, size=2048, type=b921b045-1df0-41c3-af44-4c6f280d3fae',
    ].join('\n')
    const disk = await makePartitioned(table, [[mib, esp]])
    const found = await look(disk)
    expect(found).toMatchObject({
      partitionTable: 'gpt',
      firmware: ['uefi'],
      architecture: 'arm64',
    })
    expect(found.volumes).toEqual([
      {
        partition: { number: 1, type: 'esp', name: 'ESP [31m' },
        start: mib,
        size: 16 * mib,
        fileSystem: { type: 'vfat', label: 'ESP', uuid: '1234-ABCD' },
      },
      {
        partition: { number: 2, type: 'root-arm64', name: undefined },
        start: 20 * mib,
        size: mib,
        fileSystem: undefined,
      },
    ])
    disk[512 + 40] = 77
    expect(await look(disk)).toEqual(found)
    disk.fill(0, disk.length - 512)
    expect(await look(disk)).toMatchObject({ partitionTable: 'gpt', volumes: [] })
  })

  it('of a GPT whose sectors are 4 KiB', async () => {
    const disk = Buffer.alloc(4 * mib)
    const entry = disk.subarray(2 * 4096)
    entry.set(Buffer.from('af3dc60f838472478e793d69d8477de4', 'hex'))
    entry.writeBigUInt64LE(256n, 32)
    entry.writeBigUInt64LE(511n, 40)
    const header = disk.subarray(4096, 4096 + 92)
    header.write('EFI PART', 'latin1')
    header.writeUInt32LE(92, 12)
    header.writeBigUInt64LE(2n, 72)
    header.writeUInt32LE(1, 80)
    header.writeUInt32LE(128, 84)
    header.writeUInt32LE(crc32(header), 16)
    const partition = { number: 1, type: 'linux', name: undefined }
    expect((await look(disk)).volumes).toMatchObject([{ partition, start: mib, size: mib }])
  })

  it('of an MBR, those within one too', async () => {
    const table = [
      'label: dos',
      'start=2048, size=2048, type=83, bootable',
      'start=8192, size=40960, type=5',
      'start=10240, size=2048, type=82',
      'start=20480, size=2048, type=83',
    ].join('\n')
    const found = await look(await makePartitioned(table, []))
    expect(found).toMatchObject({ partitionTable: 'mbr', firmware: [] })
    expect(found.volumes.map(({ partition, start }) => [partition?.number, start / 512])).toEqual([
      [1, 2048],
      [5, 10_240],
      [6, 20_480],
    ])
  })

  it('of a disk that a BIOS starts', async () => {
    expect(await look(bootSectorDisk())).toMatchObject({
      partitionTable: 'mbr',
      firmware: ['bios'],
    })
  })
})

describe('a CD', () => {
  it('of Debian: its system and machine, and what firmware starts', async () => {
    const efi = await makeFat({ 'EFI/BOOT/BOOTX64.EFI': peHeader(0x8664) }, '', 2 * mib)
    const line = 'Debian GNU/Linux 12.5.0 "Bookworm" - Official amd64 NETINST 20240210-11:28\n'
    const files = { '.disk/info': line, 'boot/efi.img': efi, 'boot/bios.img': 'x'.repeat(2048) }
    const disk = await makeDisk(
      'rm "$disk"; xorriso -as mkisofs -quiet -V "Debian 12.5" -R -b boot/bios.img -no-emul-boot -boot-load-size 4 -eltorito-alt-boot -e boot/efi.img -no-emul-boot -o "$disk" "$tree"',
      { files },
    )
    expect(await look(disk)).toMatchObject({
      partitionTable: 'none',
      volumes: [{ fileSystem: { type: 'iso9660', label: 'Debian 12.5', uuid: undefined } }],
      firmware: ['bios', 'uefi'],
      architecture: 'amd64',
      os: { id: 'debian', version: '12.5.0', name: line.trim() },
      hasCloudInit: undefined,
    })
  })
})

describe('by name only', () => {
  const uuid = '11111111-2222-4333-8444-555555555555'

  it.each([
    ['xfs', `mkfs.xfs -q -m uuid=${uuid} -L data "$disk"`, 320, 'data'],
    ['btrfs', `mkfs.btrfs -q -U ${uuid} -L 'my data' "$disk"`, 128, 'my data'],
    ['swap', `mkswap -U ${uuid} -L swapped "$disk"`, 4, 'swapped'],
  ])('%s', async (type, make, sizeMib, label) => {
    const found = await look(await makeDisk(make, { size: sizeMib * mib }))
    expect(found.volumes).toMatchObject([{ fileSystem: { type, label, uuid } }])
  })

  it('a volume of LVM, and nothing at all', async () => {
    const disk = Buffer.alloc(mib)
    expect(await look(disk)).toMatchObject({ partitionTable: 'none', volumes: [] })
    disk.write('LABELONE', 512)
    disk.write('LVM2 001', 512 + 24)
    expect((await look(disk)).volumes).toMatchObject([{ fileSystem: { type: 'LVM2_member' } }])
  })
})
