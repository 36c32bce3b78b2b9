import { CodedError } from '../core/errors.ts'

interface Signature {
  readonly at: number
  readonly magic: Buffer
  /** What the source is, as a noun phrase. */
  readonly what: string
  /** What to do about it. */
  readonly next: string
  /** Also by chance in boot code: does not count before a boot signature. */
  readonly isWeak?: true
}

const unpack = 'unpack it and give the disk image inside'
const convert = 'convert it first: qemu-img convert -O qcow2'
const notYet = 'not yet supported: unpack it first'
const nested = 'at most two layers of compression are unpacked'
const notADisk = 'check that the URL is a direct download link'

function hex(at: number, magic: string, what: string, next: string): Signature {
  return { at, magic: Buffer.from(magic.replaceAll(' ', ''), 'hex'), what, next }
}

function ascii(at: number, magic: string, what: string, next: string): Signature {
  return { at, magic: Buffer.from(magic, 'latin1'), what, next }
}

const signatures: readonly Signature[] = [
  hex(0, '1f8b08', 'still gzip after unpacking', nested),
  hex(0, 'fd377a585a00', 'still xz after unpacking', nested),
  hex(0, '28b52ffd', 'still zstd after unpacking', nested),
  ascii(0, 'PK\x03\x04', 'a zip archive', unpack),
  ascii(0, 'PK\x05\x06', 'an empty zip archive', unpack),
  hex(0, '377abcaf271c', 'a 7z archive', unpack),
  ascii(0, 'Rar!\x1a\x07', 'a rar archive', unpack),
  ascii(257, 'ustar', 'a tar archive (or an OVA)', unpack),
  ascii(0, '070701', 'a cpio archive', unpack),
  ascii(0, '!<arch>\n', 'an ar archive or a Debian package', unpack),
  ascii(0, 'MSCF\0\0\0\0', 'a cabinet archive', unpack),
  ascii(0, 'MSWIM\0\0\0', 'a Windows WIM image', 'it holds files, not a disk'),
  hex(0, 'edabeedb', 'an RPM package', unpack),
  ascii(0, 'BZh', 'bzip2', notYet),
  hex(0, '04224d18', 'lz4', notYet),
  hex(0, '02214c18', 'lz4 (legacy)', notYet),
  ascii(0, 'LZIP', 'lzip', notYet),
  { ...hex(0, '5d0000', 'lzma', notYet), isWeak: true },
  { ...hex(0, '1f9d', 'compress (.Z)', notYet), isWeak: true },
  ascii(0, 'COWD', 'an ESX sparse VMDK (COWD)', convert),
  hex(0, 'bebafeca00000000', 'an ESX space-efficient VMDK (seSparse)', convert),
  ascii(0, 'QED\0', 'a QED image', convert),
  ascii(0, 'WithoutFreeSpace', 'a Parallels image', convert),
  ascii(0, 'WithouFreSpacExt', 'a Parallels image', convert),
  ascii(0, 'Bochs Virtual HD Image', 'a Bochs image', convert),
  ascii(0, '#!/bin/sh\n#V2.0 Format', 'a cloop image', convert),
  hex(0, '4c554b53babe', 'a LUKS-encrypted volume', 'decrypt it first'),
  ascii(0, '%PDF-', 'a PDF document', notADisk),
  hex(0, '7f454c46', 'an ELF program', notADisk),
  hex(0, '89504e470d0a1a0a', 'a PNG picture', notADisk),
]

/** Throws FORMAT_UNSUPPORTED where `head` begins an archive, a wrapping or a format not read. */
export function refuseKnownUnsupported(head: Uint8Array): void {
  const found = signatures.find(
    (signature) => hasMagic(head, signature.at, signature.magic) && !isByChance(head, signature),
  )
  if (found) {
    throw new CodedError(
      'FORMAT_UNSUPPORTED',
      `the source is ${found.what}, not a disk image that can be imported: ${found.next}`,
    )
  }
}

function isByChance(head: Uint8Array, { isWeak }: Signature): boolean {
  return isWeak === true && head[510] === 0x55 && head[511] === 0xaa
}

/** True where `bytes` holds `magic` (bytes, or ASCII text) at `offset`. */
export function hasMagic(bytes: Uint8Array, offset: number, magic: Uint8Array | string): boolean {
  const wanted = typeof magic === 'string' ? Buffer.from(magic, 'latin1') : magic
  return (
    offset >= 0 &&
    offset + wanted.length <= bytes.length &&
    Buffer.compare(bytes.subarray(offset, offset + wanted.length), wanted) === 0
  )
}
