import { crc32 } from 'node:zlib'
import {
  accepted,
  ofUntoldLength,
  reEncoded,
  refused,
  warned,
  type CorpusFile,
} from './corpus-file.ts'
import { mib, patched, type Workshop } from './workshop.ts'

const unsupported = (names: string) => ['FORMAT_UNSUPPORTED', names] as const
const unsafe = (names: string) => ['IMAGE_UNSAFE', names] as const
const incomplete = (names: string) => ['IMAGE_INCOMPLETE', names] as const

/** Bytes that begin with that signature. */
const signed =
  (signature: string, at = 0) =>
  (): Buffer =>
    patched(Buffer.alloc(64 * 1024), (bytes) => void bytes.write(signature, at, 'latin1'))

function writePartition(
  disk: Buffer,
  index: number,
  [type, start, count]: readonly [number, number, number],
): void {
  const at = 446 + index * 16
  disk.writeUInt8(type, at + 4)
  disk.writeUInt32LE(start, at + 8)
  disk.writeUInt32LE(count, at + 12)
  disk.write('55aa', 510, 'hex')
}

/** The disk with a partition table whose second copy is in its last sector. */
function gptDisk({ disk }: Workshop): Buffer {
  const bytes = Buffer.from(disk)
  const last = bytes.length / 512 - 1
  const header = (at: number, other: number): void => {
    const sector = bytes.subarray(at * 512, at * 512 + 512).fill(0)
    sector.write('EFI PART\0\0\x01\0', 'latin1')
    sector.writeUInt32LE(92, 12)
    sector.writeBigUInt64LE(BigInt(at), 24)
    sector.writeBigUInt64LE(BigInt(other), 32)
    sector.writeUInt32LE(crc32(sector.subarray(0, 92)), 16)
  }
  bytes.fill(0, 0, 446)
  writePartition(bytes, 0, [0xee, 1, last])
  header(1, last)
  header(last, 1)
  return bytes
}

/** A volume of `blocks` × 2 KiB in a file of 160 KiB. */
function iso(blocks: number): Buffer {
  const bytes = Buffer.alloc(80 * 2048)
  bytes.write('\x01CD001\x01', 0x8000, 'latin1')
  bytes.write('\xffCD001\x01', 0x8800, 'latin1')
  bytes.writeUInt32LE(blocks, 0x8050)
  bytes.writeUInt16LE(2048, 0x8080)
  return bytes
}

/** A header that names a file of the host, where a guest has written it. */
async function hostileSector(shop: Workshop): Promise<Buffer> {
  const image = await shop.convert('qcow2')
  const name = shop.canary.path
  image.writeBigUInt64BE(256n, 8)
  image.writeUInt32BE(name.length, 16)
  image.write(name, 256, 'latin1')
  return image.subarray(0, 512)
}

/** The disk, whose sector `at` begins a qcow2 that has a backing file. */
const withHostileSector =
  (at: number) =>
  async (shop: Workshop): Promise<Buffer> => {
    const disk = Buffer.from(shop.disk)
    disk.set(await hostileSector(shop), at * 512)
    return disk
  }

const converted = async (shop: Workshop, format: string, disk: Buffer): Promise<Buffer> =>
  shop.run(`qemu-img convert -f raw -O ${format} "$1" "$2"`, disk)

export const otherFiles: readonly CorpusFile[] = [
  reEncoded('disk.raw', 'a raw disk', 'file', ({ disk }) => Buffer.from(disk)),
  reEncoded('odd.raw', 'a raw disk that ends inside a sector', 'file', ({ disk }) =>
    disk.subarray(0, 300_100),
  ),
  refused('qed.qed', 'QED', unsupported('QED'), (shop) => shop.create('qed', '4M')),
  refused('parallels.hdd', 'Parallels', unsupported('Parallels'), (shop) =>
    shop.create('parallels', '4M'),
  ),
  refused('bochs.img', 'Bochs', unsupported('Bochs'), signed('Bochs Virtual HD Image')),
  refused('cloop.img', 'cloop', unsupported('cloop'), signed('#!/bin/sh\n#V2.0 Format\n')),
  refused('apple.dmg', 'an Apple disk image, known by its end', unsupported('dmg'), ({ disk }) =>
    patched(Buffer.from(disk), (bytes) => void bytes.write('koly', bytes.length - 512, 'latin1')),
  ),
  refused('luks-1.img', 'LUKS 1', unsupported('LUKS'), signed('LUKS\xba\xbe\x00\x01')),
  refused('luks-2.img', 'LUKS 2', unsupported('LUKS'), signed('LUKS\xba\xbe\x00\x02')),
  reEncoded('gpt.raw', 'a GPT and its second copy', 'file', gptDisk),
  reEncoded(
    'gpt-hybrid.raw',
    'a GPT with more entries in the MBR: partition tables are contents',
    'file',
    (shop) => patched(gptDisk(shop), (bytes) => writePartition(bytes, 1, [0x83, 2048, 2048])),
  ),
  ofUntoldLength(
    refused(
      'gpt-cut.raw',
      'a disk that ends before its GPT does',
      incomplete('partition table (GPT) ends'),
      (shop) => gptDisk(shop).subarray(0, 2 * mib),
    ),
  ),
  ofUntoldLength(
    refused(
      'gpt-no-copy.raw',
      'a GPT without its second header',
      incomplete('second header'),
      (shop) => patched(gptDisk(shop), (bytes) => void bytes.fill(0, bytes.length - 512)),
    ),
  ),
  warned(
    reEncoded('gpt-made-short.raw', 'the first of them, of a known length', 'file', (shop) =>
      gptDisk(shop).subarray(0, 2 * mib),
    ),
    'partition table (GPT) ends',
  ),
  reEncoded('mbr-flags.raw', 'an MBR with boot flags that do not exist', 'file', ({ disk }) =>
    patched(Buffer.from(disk), (bytes) => {
      writePartition(bytes, 0, [0x83, 2048, 2048])
      bytes.writeUInt8(0x17, 446)
    }),
  ),
  reEncoded(
    'partition-is-qcow2.raw',
    'a partition that begins with a qcow2 header',
    'file',
    async (shop) =>
      patched(await withHostileSector(2048)(shop), (bytes) =>
        writePartition(bytes, 0, [0x83, 2048, 4096]),
      ),
  ),
  refused(
    'first-sector.raw.gz',
    'a raw disk whose first sector is a qcow2 header with a backing file, packed',
    unsafe('backing file'),
    async (shop) => shop.run('gzip -c "$1" >"$2"', await withHostileSector(0)(shop)),
  ),
  reEncoded(
    'first-sector.vdi',
    'the same disk inside of a VDI: there it is data',
    'vdi',
    async (shop) => converted(shop, 'vdi', await withHostileSector(0)(shop)),
  ),
  accepted('volume.iso', 'an ISO', () => iso(80)),
  accepted('hybrid.iso', 'an ISO with a partition table, longer than its volume', () =>
    patched(iso(40), (bytes) => writePartition(bytes, 0, [0x17, 0, 320])),
  ),
  ofUntoldLength(
    refused('cut.iso', 'an ISO shorter than its volume', incomplete('the ISO is cut off'), () =>
      iso(81),
    ),
  ),
  warned(
    accepted('made-short.iso', 'the same, of a known length', () => iso(81)),
    'the ISO is not whole',
  ),
  refused(
    'polyglot.iso',
    'an ISO and a qcow2 at once',
    unsafe('qcow2 and iso at once'),
    async (shop) =>
      patched(await shop.convert('qcow2'), (bytes) =>
        bytes.set(iso(80).subarray(0x8000, 0x9000), 0x8000),
      ),
  ),
  refused('footer.iso', 'an ISO with the footer of a VHD', unsafe('iso and vhd at once'), () =>
    patched(iso(80), (bytes) => void bytes.write('conectix', bytes.length - 512, 'latin1')),
  ),
  refused('zip.zip', 'a zip archive', unsupported('zip'), signed('PK\x03\x04')),
  refused('files.tar', 'a tar that is no OVA', unsupported('tar'), (shop) =>
    shop.run('tar -cf "$2" -C "$(dirname "$1")" "$(basename "$1")"', shop.disk),
  ),
  refused('program.elf', 'a program', unsupported('ELF'), signed('\x7fELF')),
  refused('login.html', 'a login page with status 200', ['FORMAT_UNKNOWN', 'HTML page'], () =>
    Buffer.from(`<!DOCTYPE html>\n<title>Sign in</title>${'<p>please'.repeat(200)}`),
  ),
  refused('error.json', 'a JSON document', ['FORMAT_UNKNOWN', 'JSON'], () =>
    Buffer.from(`{"error":"${'not found '.repeat(100)}"}`),
  ),
  refused('empty.img', 'nothing', ['FORMAT_UNKNOWN', 'empty'], () => Buffer.alloc(0)),
  refused('short.img', '100 bytes', ['FORMAT_UNKNOWN', 'too short'], () => Buffer.alloc(100, 0x80)),
]
