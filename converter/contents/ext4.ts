import { plainText, uuidText, type DiskBytes } from './disk-bytes.ts'
import { blockList, extentList, type BlockMap } from './ext4-blocks.ts'
import { inlineData } from './ext4-inline.ts'
import { createFileTree, type FileSystem, type TreeEntry, type TreeNode } from './file-tree.ts'

/** `ext2`, `ext3` and `ext4` are one format with more or fewer features. */
interface SuperBlock {
  readonly blockBytes: number
  readonly blocksPerGroup: number
  readonly inodesPerGroup: number
  readonly inodes: number
  readonly inodeBytes: number
  readonly firstDataBlock: number
  readonly descriptorBytes: number
  /** Groups of groups from this one on keep their descriptors with them; `Infinity`: none do. */
  readonly firstMetaGroup: number
  readonly isSparse: boolean
}

const superBlockAt = 1024
const magic = 0xef53
const rootInode = 2
const compat = { journal: 0x4 }
const incompat = { metaGroups: 0x10, extents: 0x40, is64Bit: 0x80, ext4: 0x82c0 }
const readOnlyCompat = { sparse: 0x1, ext4: 0x78 }
const inodeFlags = { extents: 0x8_0000, inline: 0x1000_0000 }
const mostBlockBytes = 64 * 1024

/** @see Linux Documentation/filesystems/ext4 */
export async function openExt4(bytes: DiskBytes): Promise<FileSystem | undefined> {
  const raw = await bytes.read(superBlockAt, 1024)
  if (raw.readUInt16LE(56) !== magic) return undefined
  const features = [92, 96, 100].map((at) => raw.readUInt32LE(at))
  const [has = 0, needs = 0, needsToWrite = 0] = features
  const isExt4 = (needs & incompat.ext4) !== 0 || (needsToWrite & readOnlyCompat.ext4) !== 0
  const old = (has & compat.journal) === 0 ? 'ext2' : 'ext3'
  return {
    type: isExt4 ? 'ext4' : old,
    label: plainText(raw.subarray(120, 136)),
    uuid: uuidText(raw.subarray(104, 120)),
    async openTree() {
      const block = parseSuperBlock(raw, needs, needsToWrite)
      return createFileTree(await inodeAt(bytes, block, rootInode))
    },
  }
}

function parseSuperBlock(raw: Buffer, needs: number, needsToWrite: number): SuperBlock {
  const isOld = raw.readUInt32LE(76) === 0
  const is64Bit = (needs & incompat.is64Bit) !== 0
  const block: SuperBlock = {
    blockBytes: 1024 * 2 ** Math.min(10, raw.readUInt32LE(24)),
    blocksPerGroup: raw.readUInt32LE(32),
    inodesPerGroup: raw.readUInt32LE(40),
    inodes: raw.readUInt32LE(0),
    inodeBytes: isOld ? 128 : raw.readUInt16LE(88),
    firstDataBlock: raw.readUInt32LE(20),
    descriptorBytes: is64Bit ? Math.max(32, raw.readUInt16LE(254)) : 32,
    firstMetaGroup: (needs & incompat.metaGroups) === 0 ? Infinity : raw.readUInt32LE(260),
    isSparse: (needsToWrite & readOnlyCompat.sparse) !== 0,
  }
  const { blockBytes, inodeBytes, inodesPerGroup } = block
  if (blockBytes > mostBlockBytes || inodeBytes < 128 || inodeBytes > 4096 || inodesPerGroup < 1) {
    throw new Error('a superblock that no ext4 has')
  }
  return block
}

/** Where the descriptor of a group is, in bytes. */
function descriptorAt(group: number, block: SuperBlock): number {
  const { blockBytes, descriptorBytes, firstDataBlock, firstMetaGroup } = block
  const perBlock = Math.floor(blockBytes / descriptorBytes)
  const metaGroup = Math.floor(group / perBlock)
  const inBlock = (group % perBlock) * descriptorBytes
  if (metaGroup < firstMetaGroup) {
    // Right behind the superblock's own block, which is not always the first of its group.
    const superBlock = Math.floor(superBlockAt / blockBytes)
    return (superBlock + 1 + metaGroup) * blockBytes + inBlock
  }
  const first = metaGroup * perBlock
  const start = firstDataBlock + first * block.blocksPerGroup
  return (start + (hasSuperBlock(first, block.isSparse) ? 1 : 0)) * blockBytes + inBlock
}

function hasSuperBlock(group: number, isSparse: boolean): boolean {
  const isPowerOf = (base: number): boolean => {
    let power = base
    while (power < group) power *= base
    return power === group
  }
  return !isSparse || group <= 1 || [3, 5, 7].some(isPowerOf)
}

async function inodeAt(bytes: DiskBytes, block: SuperBlock, number: number): Promise<TreeNode> {
  const { inodesPerGroup, inodeBytes, descriptorBytes, blockBytes } = block
  if (number < 1 || number > block.inodes) throw new Error(`no inode ${number}`)
  const group = Math.floor((number - 1) / inodesPerGroup)
  const descriptor = await bytes.read(descriptorAt(group, block), descriptorBytes)
  const high = descriptorBytes >= 64 ? descriptor.readUInt32LE(40) : 0
  const table = (high * 2 ** 32 + descriptor.readUInt32LE(8)) * blockBytes
  const inode = await bytes.read(table + ((number - 1) % inodesPerGroup) * inodeBytes, inodeBytes)
  return nodeOf(bytes, block, inode)
}

function nodeOf(bytes: DiskBytes, block: SuperBlock, inode: Buffer): TreeNode {
  const flags = inode.readUInt32LE(32)
  const kind = kindOf(inode.readUInt16LE(0))
  const sizeHigh = kind === 'file' ? inode.readUInt32LE(108) : 0
  const size = sizeHigh * 2 ** 32 + inode.readUInt32LE(4)
  const hasExtents = (flags & inodeFlags.extents) !== 0
  const pointers = inode.subarray(40, 100)
  const isInline = (flags & inodeFlags.inline) !== 0
  const isShortLink = kind === 'link' && !hasExtents && size < pointers.length

  function contents(most: number): Promise<Buffer> | Buffer {
    const wanted = Math.min(most, size)
    if (isInline) return inlineData(inode).subarray(0, wanted)
    if (isShortLink) return pointers.subarray(0, wanted)
    const map = hasExtents
      ? extentList(bytes, pointers, block.blockBytes)
      : blockList(bytes, pointers, block.blockBytes)
    return readBlocks(bytes, map, block.blockBytes, wanted)
  }

  return {
    kind,
    size,
    contents: async (most) => contents(most),
    async *entries() {
      const open = (number: number): Promise<TreeNode> => inodeAt(bytes, block, number)
      if (isInline) {
        // The number of the folder above, then entries; more of them behind the inode.
        const all = inlineData(inode)
        yield* entriesIn(all.subarray(4, pointers.length), open)
        yield* entriesIn(all.subarray(pointers.length), open)
        return
      }
      const map = hasExtents
        ? extentList(bytes, pointers, block.blockBytes)
        : blockList(bytes, pointers, block.blockBytes)
      for (let index = 0; index * block.blockBytes < size; index++) {
        const at = await map(index)
        if (at === undefined) continue
        yield* entriesIn(await bytes.read(at * block.blockBytes, block.blockBytes), open)
      }
    },
  }
}

function kindOf(mode: number): TreeNode['kind'] {
  switch (mode >>> 12) {
    case 4:
      return 'folder'
    case 8:
      return 'file'
    case 10:
      return 'link'
    default:
      return 'other'
  }
}

async function readBlocks(
  bytes: DiskBytes,
  map: BlockMap,
  blockBytes: number,
  wanted: number,
): Promise<Buffer> {
  const into = Buffer.alloc(wanted)
  for (let done = 0; done < wanted; done += blockBytes) {
    const at = await map(done / blockBytes)
    if (at === undefined) continue
    const size = Math.min(blockBytes, wanted - done)
    into.set(await bytes.read(at * blockBytes, size), done)
  }
  return into
}

/** Blocks of a hashed folder read as ones with nothing in them, so all can be read one by one. */
function* entriesIn(
  block: Buffer,
  open: (inode: number) => Promise<TreeNode>,
): Generator<TreeEntry, void> {
  for (let at = 0; at + 8 <= block.length;) {
    const inode = block.readUInt32LE(at)
    const said = block.readUInt16LE(at + 4)
    const nameLength = block.readUInt8(at + 6)
    // 64 KiB do not fit into the field.
    const size = said === 0 || said === 0xffff ? block.length - at : said
    if (size < 8 || size % 4 !== 0) return
    const name = block.toString('utf8', at + 8, at + 8 + nameLength)
    if (inode !== 0 && name !== '.' && name !== '..') yield { name, open: () => open(inode) }
    at += size
  }
}
