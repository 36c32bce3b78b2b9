import { deflateSync } from 'node:zlib'
import { refused, type CorpusFile } from './corpus-file.ts'

const sector = 512
const grainBytes = 64 * 1024
const perTable = 512
const overheadSectors = 128
const atEnd = 2n ** 64n - 1n

const unsafe = (field: string) =>
  ['IMAGE_UNSAFE', `its footer says something else than its ${field}`] as const

export const vmdkFooters: readonly CorpusFile[] = [
  refused(
    'footer-capacity.vmdk',
    'a footer with another capacity',
    unsafe('header (capacity)'),
    ({ disk }) => streamVmdk(disk, (footer) => void footer.writeBigUInt64LE(4096n, 12)),
  ),
  refused(
    'footer-directory.vmdk',
    'a footer with another directory',
    unsafe('markers (gdOffset)'),
    ({ disk }) => streamVmdk(disk, (footer) => void footer.writeBigUInt64LE(1n, 56)),
  ),
  refused(
    'footer-descriptor.vmdk',
    'a footer with another place of the descriptor',
    unsafe('header (descriptorOffset)'),
    ({ disk }) => streamVmdk(disk, (footer) => void footer.writeBigUInt64LE(9n, 28)),
  ),
  refused(
    'footer-flags.vmdk',
    'a footer that says its grains are not compressed',
    unsafe('header (flags)'),
    ({ disk }) => streamVmdk(disk, (footer) => void footer.writeUInt32LE(3, 8)),
  ),
  refused(
    'footer-again.vmdk',
    'a footer that says there is another one',
    unsafe('markers (gdOffset)'),
    ({ disk }) => streamVmdk(disk, (footer) => void footer.writeBigUInt64LE(2n ** 64n - 1n, 56)),
  ),
  refused(
    'footer-cut.vmdk',
    'cut off before its footer',
    ['IMAGE_INCOMPLETE', 'marker'],
    ({ disk }) => streamVmdk(disk).subarray(0, -3 * sector),
  ),
]

/**
 * A stream-optimized VMDK of `disk` (at most 32 MiB) as VMware's tools write it: grains with
 * markers, then the table, the directory and a footer that says where it is. `change` is made to
 * the footer. @see VMware, Virtual Disk Format 5.0 §stream-optimized
 */
export function streamVmdk(disk: Buffer, change: (footer: Buffer) => void = () => {}): Buffer {
  const header = headerOf(disk.length / sector, atEnd)
  const descriptor = Buffer.alloc((overheadSectors - 1) * sector)
  descriptor.write(
    [
      '# Disk DescriptorFile',
      'version=1',
      'CID=12345678',
      'parentCID=ffffffff',
      'createType="streamOptimized"',
      `RW ${disk.length / sector} SPARSE "footer.vmdk"`,
      'ddb.adapterType = "lsilogic"',
      '',
    ].join('\n'),
  )
  const parts = [header, descriptor]
  let at = overheadSectors
  const add = (bytes: Buffer): void => {
    const padded = Buffer.alloc(Math.ceil(bytes.length / sector) * sector)
    padded.set(bytes)
    parts.push(padded)
    at += padded.length / sector
  }
  const table = Buffer.alloc(perTable * 4)
  for (let start = 0; start < disk.length; start += grainBytes) {
    const grain = disk.subarray(start, start + grainBytes)
    if (grain.every((byte) => byte === 0)) continue
    const packed = deflateSync(grain)
    const marker = Buffer.alloc(12)
    marker.writeBigUInt64LE(BigInt(start / sector))
    marker.writeUInt32LE(packed.length, 8)
    table.writeUInt32LE(at, (start / grainBytes) * 4)
    add(Buffer.concat([marker, packed]))
  }
  add(metadataMarker(1, table.length / sector))
  const tableSector = at
  add(table)
  add(metadataMarker(2, 1))
  const directorySector = at
  const directory = Buffer.alloc(sector)
  directory.writeUInt32LE(tableSector)
  add(directory)
  add(metadataMarker(3, 1))
  const footer = headerOf(disk.length / sector, BigInt(directorySector))
  change(footer)
  add(footer)
  add(metadataMarker(0, 0))
  return Buffer.concat(parts)
}

function headerOf(capacity: number, directory: bigint): Buffer {
  const header = Buffer.alloc(sector)
  header.write('KDMV', 'latin1')
  header.writeUInt32LE(3, 4)
  header.writeUInt32LE(0x3_00_01, 8)
  header.writeBigUInt64LE(BigInt(capacity), 12)
  header.writeBigUInt64LE(BigInt(grainBytes / sector), 20)
  header.writeBigUInt64LE(1n, 28)
  header.writeBigUInt64LE(BigInt(overheadSectors - 1), 36)
  header.writeUInt32LE(perTable, 44)
  header.writeBigUInt64LE(directory, 56)
  header.writeBigUInt64LE(BigInt(overheadSectors), 64)
  header.writeUInt32BE(0x0a_20_0d_0a, 73)
  header.writeUInt16LE(1, 77)
  return header
}

function metadataMarker(type: number, sectors: number): Buffer {
  const marker = Buffer.alloc(sector)
  marker.writeBigUInt64LE(BigInt(sectors))
  marker.writeUInt32LE(type, 12)
  return marker
}
