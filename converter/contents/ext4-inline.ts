const pointersAt = 40
const pointersBytes = 60
const goodOldInodeBytes = 128
const attributesMagic = 0xea02_0000
/** The name space `system`. */
const systemIndex = 7

/**
 * What a file keeps in its inode: the place of the block numbers, then the attribute
 * `system.data` behind the inode's fields. @see Linux Documentation/filesystems/ext4/attributes.rst
 */
export function inlineData(inode: Buffer): Buffer {
  const start = inode.subarray(pointersAt, pointersAt + pointersBytes)
  return Buffer.concat([start, systemData(inode)])
}

function systemData(inode: Buffer): Buffer {
  const none = Buffer.alloc(0)
  if (inode.length <= goodOldInodeBytes + 4) return none
  const header = goodOldInodeBytes + inode.readUInt16LE(goodOldInodeBytes)
  const first = header + 4
  if (first + 16 > inode.length || inode.readUInt32LE(header) !== attributesMagic) return none
  for (let at = first; at + 16 <= inode.length && inode.readUInt32LE(at) !== 0;) {
    const nameLength = inode.readUInt8(at)
    const name = inode.toString('latin1', at + 16, at + 16 + nameLength)
    if (inode.readUInt8(at + 1) === systemIndex && name === 'data') {
      const value = first + inode.readUInt16LE(at + 2)
      return inode.subarray(value, value + inode.readUInt32LE(at + 8))
    }
    at += 16 + Math.ceil(nameLength / 4) * 4
  }
  return none
}
