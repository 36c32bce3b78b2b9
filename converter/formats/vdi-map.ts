import { CodedError } from '../../core/errors.ts'
import { imageUnsafe } from './refusal.ts'
import { mappedRuns } from './mapped-runs.ts'
import type { MapDisk } from '../one-pass.ts'

/** What is needed of the header of a VDI (VirtualBox) that is a disk of its own. */
export interface VdiHeader {
  readonly virtualSize: number
  readonly mapOffset: number
  readonly dataOffset: number
  readonly blockBytes: number
  readonly blocks: number
}

const headerBytes = 512
const version = 0x00_01_00_01
const type = { dynamic: 1, fixed: 2 } as const
const blockBytes = 1024 * 1024
/** Entries of the map from here on name no block. */
const discarded = 0xff_ff_ff_fe

/**
 * Reads the header in the first 512 bytes. Throws IMAGE_UNSAFE for what needs another file or
 * breaks the format, FORMAT_UNSUPPORTED for what is not read, IMAGE_INCOMPLETE where it is cut off.
 */
export function parseVdiHeader(head: Uint8Array): VdiHeader {
  if (head.length < headerBytes) {
    throw new CodedError('IMAGE_INCOMPLETE', 'the vdi is cut off within its header')
  }
  const bytes = Buffer.from(head.buffer, head.byteOffset, headerBytes)
  const found = bytes.readUInt32LE(0x44)
  if (found !== version) throw unsupported(`its version is 0x${found.toString(16)}; 1.1 is read`)
  const imageType = bytes.readUInt32LE(0x4c)
  if (imageType !== type.dynamic && imageType !== type.fixed) {
    throw unsafe(`its type is ${imageType}, a difference to another disk; 1 and 2 are whole disks`)
  }
  for (const [name, at] of [
    ['uuid_link', 0x1a8],
    ['uuid_parent', 0x1b8],
  ] as const) {
    if (bytes.subarray(at, at + 16).some((byte) => byte !== 0)) {
      throw unsafe(`${name} names another disk that it needs; merge it first`)
    }
  }
  const mapOffset = bytes.readUInt32LE(0x154)
  const dataOffset = bytes.readUInt32LE(0x158)
  if (mapOffset % 512 !== 0 || mapOffset < headerBytes) {
    throw unsafe(`offset_bmap is ${mapOffset}`)
  }
  if (dataOffset % 512 !== 0 || dataOffset < headerBytes) {
    throw unsafe(`offset_data is ${dataOffset}`)
  }
  const sectorBytes = bytes.readUInt32LE(0x168)
  if (sectorBytes !== 512) throw unsupported(`sector_size is ${sectorBytes}; 512 is read`)
  if (bytes.readUInt32LE(0x178) !== blockBytes) {
    throw unsupported(`block_size is ${bytes.readUInt32LE(0x178)}; 1 MiB is read`)
  }
  if (bytes.readUInt32LE(0x17c) !== 0) {
    throw unsupported(`block_extra is ${bytes.readUInt32LE(0x17c)}; 0 is read`)
  }
  const size = bytes.readBigUInt64LE(0x170)
  const blocks = bytes.readUInt32LE(0x180)
  if (size === 0n || size > BigInt(blocks) * BigInt(blockBytes)) {
    throw unsafe(`disk_size is ${size} bytes, and it has ${blocks} blocks of ${blockBytes}`)
  }
  const virtualSize = Math.ceil(Number(size) / 512) * 512
  return { virtualSize, mapOffset, dataOffset, blockBytes, blocks }
}

/** @see VirtualBox VDICore.h, QEMU block/vdi.c */
export function mapVdi(header: VdiHeader): MapDisk {
  const { virtualSize, mapOffset, dataOffset, blocks } = header
  return async function* map(file) {
    const needed = Math.ceil(virtualSize / blockBytes)
    const table = await file.read(mapOffset, needed * 4, 'the block map')
    const view = new DataView(table.buffer, table.byteOffset, table.length)
    yield* mappedRuns({
      format: 'vdi',
      count: needed,
      blockBytes,
      virtualSize,
      tables: [
        { start: 0, end: headerBytes },
        { start: mapOffset, end: mapOffset + blocks * 4 },
      ],
      startOf(block) {
        const entry = view.getUint32(block * 4, true)
        return entry >= discarded ? undefined : dataOffset + entry * blockBytes
      },
    })
  }
}

const unsafe = (reason: string) => imageUnsafe('vdi', reason)

function unsupported(reason: string): CodedError {
  return new CodedError('FORMAT_UNSUPPORTED', `the vdi cannot be read: ${reason}`)
}
