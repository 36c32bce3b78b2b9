import type { DiskBytes } from './disk-bytes.ts'

/** The block of the disk that holds a file's block of that number; `undefined`: a hole. */
export type BlockMap = (index: number) => Promise<number | undefined>

const extentMagic = 0xf30a
const deepest = 5
const direct = 12

/** `root`: the 60 bytes of the inode. @see Linux Documentation/filesystems/ext4/ifork.rst */
export function extentList(bytes: DiskBytes, root: Buffer, blockBytes: number): BlockMap {
  return async (index) => {
    let node = root
    for (let depth = extentDepth(root); ; depth--) {
      const found = lastBefore(node, index)
      if (found === undefined) return undefined
      const entry = node.subarray(12 + found * 12, 24 + found * 12)
      if (depth === 0) return inExtent(entry, index)
      const at = entry.readUInt16LE(8) * 2 ** 32 + entry.readUInt32LE(4)
      node = await bytes.read(at * blockBytes, blockBytes)
      if (extentDepth(node) !== depth - 1) throw new Error('a tree of extents that is none')
    }
  }
}

function extentDepth(node: Buffer): number {
  const depth = node.readUInt16LE(6)
  if (node.readUInt16LE(0) !== extentMagic || depth > deepest) throw new Error('no extents')
  return depth
}

/** The last entry that starts at `index` or before. */
function lastBefore(node: Buffer, index: number): number | undefined {
  const most = Math.floor((node.length - 12) / 12)
  const count = Math.min(node.readUInt16LE(2), most)
  let found: number | undefined
  for (let entry = 0; entry < count; entry++) {
    if (node.readUInt32LE(12 + entry * 12) <= index) found = entry
  }
  return found
}

function inExtent(entry: Buffer, index: number): number | undefined {
  const said = entry.readUInt16LE(4)
  const inExtentAt = index - entry.readUInt32LE(0)
  // Longer ones are reserved room that nothing was written to: zeros.
  if (said > 0x8000 || inExtentAt >= said) return undefined
  return entry.readUInt16LE(6) * 2 ** 32 + entry.readUInt32LE(8) + inExtentAt
}

/** Twelve blocks, then blocks of numbers of blocks, up to three deep. */
export function blockList(bytes: DiskBytes, root: Buffer, blockBytes: number): BlockMap {
  const perBlock = blockBytes / 4
  return async (index) => {
    if (index < direct) return root.readUInt32LE(index * 4) || undefined
    let rest = index - direct
    for (let depth = 1; depth <= 3; depth++) {
      const covered = perBlock ** depth
      if (rest >= covered) {
        rest -= covered
        continue
      }
      let block = root.readUInt32LE((direct + depth - 1) * 4)
      for (let level = depth - 1; level >= 0 && block !== 0; level--) {
        const at = Math.floor(rest / perBlock ** level) % perBlock
        block = (await bytes.read(block * blockBytes + at * 4, 4)).readUInt32LE(0)
      }
      return block || undefined
    }
    return undefined
  }
}
