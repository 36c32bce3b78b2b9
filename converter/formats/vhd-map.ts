import { CodedError } from '../../core/errors.ts'
import { imageUnsafe } from './refusal.ts'
import { mappedRuns } from './mapped-runs.ts'
import type { MapDisk } from '../one-pass.ts'
import { vhdVirtualSize } from './vhd-size.ts'

/** What is needed of the copy of the footer that a dynamic VHD begins with. */
export interface VhdHeader {
  readonly virtualSize: number
  /** Of the dynamic header. */
  readonly headerOffset: number
}

const footerBytes = 512
const dynamicHeaderBytes = 1024
const sectorBytes = 512
const type = { dynamic: 3, differencing: 4 } as const
const unused = 0xff_ff_ff_ff
const mostBlockBytes = 256 * 1024 * 1024

/**
 * Reads the footer's copy in the first 512 bytes of a dynamic VHD. Throws IMAGE_UNSAFE for what
 * needs another file or breaks the format, IMAGE_INCOMPLETE where it is cut off.
 */
export function parseVhdHeader(head: Uint8Array): VhdHeader {
  if (head.length < footerBytes) {
    throw new CodedError('IMAGE_INCOMPLETE', 'the vhd is cut off within its header')
  }
  const bytes = Buffer.from(head.buffer, head.byteOffset, footerBytes)
  requireVhdChecksum('its footer', bytes, 64)
  const diskType = bytes.readUInt32BE(60)
  if (diskType === type.differencing) {
    throw vhdUnsafe('it is a differencing disk (type 4), which needs its parent; merge it first')
  }
  if (diskType !== type.dynamic) {
    throw vhdUnsafe(`it begins as a dynamic disk, and its type is ${diskType}`)
  }
  const headerOffset = bytes.readBigUInt64BE(16)
  if (headerOffset < BigInt(footerBytes) || headerOffset > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw vhdUnsafe(`data_offset is ${headerOffset}`)
  }
  return { virtualSize: Number(vhdVirtualSize(bytes)), headerOffset: Number(headerOffset) }
}

/** @see Microsoft, Virtual Hard Disk Image Format Specification; QEMU block/vpc.c */
export function mapVhd({ virtualSize, headerOffset }: VhdHeader): MapDisk {
  return async function* map(file) {
    const header = Buffer.from(
      await file.read(headerOffset, dynamicHeaderBytes, 'the dynamic header'),
    )
    if (header.toString('latin1', 0, 8) !== 'cxsparse') {
      throw vhdUnsafe('the dynamic header does not begin with cxsparse')
    }
    requireVhdChecksum('the dynamic header', header, 36)
    if (header.subarray(40, 56).some((byte) => byte !== 0)) {
      throw vhdUnsafe('parent_uuid names another disk that it needs; merge it first')
    }
    const tableOffset = Number(header.readBigUInt64BE(16))
    const entries = header.readUInt32BE(28)
    const blockBytes = header.readUInt32BE(32)
    const isPower = blockBytes > 0 && (blockBytes & (blockBytes - 1)) === 0
    if (!isPower || blockBytes < sectorBytes || blockBytes > mostBlockBytes) {
      throw vhdUnsafe(`block_size is ${blockBytes}`)
    }
    const count = Math.ceil(virtualSize / blockBytes)
    if (entries < count) {
      throw vhdUnsafe(`max_table_entries is ${entries}, and the disk has ${count} blocks`)
    }
    const bitmapBytes = Math.ceil(blockBytes / sectorBytes / 8 / sectorBytes) * sectorBytes
    const table = await file.read(tableOffset, count * 4, 'the block allocation table')
    const view = new DataView(table.buffer, table.byteOffset, table.length)
    yield* mappedRuns({
      format: 'vhd',
      count,
      blockBytes,
      virtualSize,
      tables: [
        { start: 0, end: footerBytes },
        { start: headerOffset, end: headerOffset + dynamicHeaderBytes },
        { start: tableOffset, end: tableOffset + entries * 4 },
      ],
      startOf(block) {
        const entry = view.getUint32(block * 4)
        return entry === unused ? undefined : entry * sectorBytes + bitmapBytes
      },
    })
  }
}

/** The complement of the sum of all bytes but those of the field itself. */
export function requireVhdChecksum(what: string, bytes: Buffer, at: number): void {
  let sum = 0
  for (const [index, byte] of bytes.entries()) {
    if (index < at || index >= at + 4) sum += byte
  }
  if (bytes.readUInt32BE(at) === ~sum >>> 0) return
  throw vhdUnsafe(`the checksum of ${what} is wrong`)
}

export const vhdUnsafe = (reason: string) => imageUnsafe('vhd', reason)
