import { attempt, plainText, uuidText, type DiskBytes } from './disk-bytes.ts'
import { openExt4 } from './ext4.ts'
import { openFat } from './fat.ts'
import type { FileSystem } from './file-tree.ts'
import { openIso } from './iso9660.ts'

/** Something that only its name is told of. */
interface Signature {
  readonly type: string
  readonly at: number
  readonly magic: string
  readonly label?: { readonly at: number; readonly size: number }
  readonly uuid?: number
}

const mib = 1024 * 1024
const btrfs: Signature = {
  type: 'btrfs',
  at: 65_600,
  magic: '_BHRfS_M',
  label: { at: 65_835, size: 256 },
  uuid: 65_568,
}
const signatures: readonly Signature[] = [
  { type: 'LUKS', at: 0, magic: 'LUKS\xba\xbe' },
  { type: 'xfs', at: 0, magic: 'XFSB', label: { at: 108, size: 12 }, uuid: 32 },
  { type: 'squashfs', at: 0, magic: 'hsqs' },
  { type: 'ntfs', at: 3, magic: 'NTFS    ' },
  { type: 'exfat', at: 3, magic: 'EXFAT   ' },
  { type: 'f2fs', at: 1024, magic: '\x10\x20\xf5\xf2', uuid: 1132 },
  ...[0, 512, 1024, 1536].map((at) => ({ type: 'LVM2_member', at: at + 24, magic: 'LVM2 001' })),
  ...[4096, 8192, 16_384, 65_536].map((page) => ({
    type: 'swap',
    at: page - 10,
    magic: 'SWAPSPACE2',
    label: { at: 1052, size: 16 },
    uuid: 1036,
  })),
]

/** What these bytes are formatted as; `undefined` where nobody knows. */
export async function findFileSystem(bytes: DiskBytes): Promise<FileSystem | undefined> {
  const bySignature = signatures.map((one) => () => readSignature(bytes, one))
  const near = [openExt4, openIso, openFat].map((open) => () => open(bytes))
  // Most are known from their first 64 KiB: the rest is read where they are not.
  for (const look of [...bySignature, ...near, () => readSignature(bytes, btrfs)]) {
    const found = await attempt(look)
    if (found) return found
  }
  return undefined
}

async function readSignature(
  bytes: DiskBytes,
  { type, at, magic, label, uuid }: Signature,
): Promise<FileSystem | undefined> {
  if (at + magic.length > Math.min(bytes.size, mib)) return undefined
  const found = await bytes.read(at, magic.length)
  if (found.toString('latin1') !== magic) return undefined
  return {
    type,
    label: label && plainText(await bytes.read(label.at, label.size)),
    uuid: uuid === undefined ? undefined : uuidText(await bytes.read(uuid, 16)),
    openTree: undefined,
  }
}
