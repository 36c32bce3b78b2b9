import { CodedError } from '../../core/errors.ts'
import { imageUnsafe } from './refusal.ts'

/** A sparse VMDK in one file. */
export interface VmdkHeader {
  readonly virtualSize: number
  /** Guest bytes of a grain. */
  readonly grainBytes: number
  /** Entries of a grain table. */
  readonly tableEntries: number
  /** Byte of the grain directory; `undefined`: a footer at the end says it. */
  readonly directoryOffset: number | undefined
  /** Bytes before the first grain. */
  readonly overheadBytes: number
  /** Grains are deflated, each behind a marker that says whose it is. */
  readonly isCompressed: boolean
  /** An entry of 1 means zeros. */
  readonly hasZeroGrains: boolean
  readonly descriptor: { readonly offset: number; readonly size: number }
  /** The sector that all this is from. */
  readonly bytes: Uint8Array
}

export const sectorBytes = 512
const flag = { zeroGrains: 0x4, compressed: 0x1_00_00, markers: 0x2_00_00 } as const
const directoryAtEnd = 0xff_ff_ff_ff_ff_ff_ff_ffn
const mostDescriptorBytes = 1024 * 1024 - 1
const deflate = 1

/**
 * Reads the header in the first 512 bytes. Throws IMAGE_UNSAFE for what breaks the format,
 * FORMAT_UNSUPPORTED for what is not read, IMAGE_INCOMPLETE where it is cut off.
 */
export function parseVmdkHeader(head: Uint8Array): VmdkHeader {
  if (head.length < sectorBytes) {
    throw new CodedError('IMAGE_INCOMPLETE', 'the vmdk is cut off within its header')
  }
  const bytes = Buffer.from(head.buffer, head.byteOffset, sectorBytes)
  const version = bytes.readUInt32LE(4)
  if (version < 1 || version > 3) throw unsupported(`its version is ${version}; 1 to 3 are read`)
  if (bytes.readUInt32BE(73) !== 0x0a_20_0d_0a) {
    throw unsafe('its line ends were changed on the way: it was sent as text')
  }
  const flags = bytes.readUInt32LE(8)
  const isCompressed = (flags & flag.compressed) !== 0
  const algorithm = bytes.readUInt16LE(77)
  if (isCompressed && algorithm !== deflate) {
    throw unsupported(`compressAlgorithm is ${algorithm}; 1 (deflate) is read`)
  }
  if (isCompressed && (flags & flag.markers) === 0) {
    throw unsupported('its grains are compressed and have no markers')
  }
  const grainSectors = bytes.readBigUInt64LE(20)
  const isPower = grainSectors > 0n && (grainSectors & (grainSectors - 1n)) === 0n
  if (!isPower || grainSectors < 8n || grainSectors > 4096n) {
    throw unsafe(`grainSize is ${grainSectors} sectors`)
  }
  const tableEntries = bytes.readUInt32LE(44)
  if (tableEntries === 0 || tableEntries > 4096) throw unsafe(`numGTEsPerGT is ${tableEntries}`)
  const descriptor = {
    offset: sectors(bytes, 28, 'descriptorOffset'),
    size: sectors(bytes, 36, 'descriptorSize'),
  }
  if (descriptor.offset !== sectorBytes) {
    throw unsafe(`descriptorOffset is sector ${descriptor.offset / sectorBytes}, and 1 is valid`)
  }
  if (descriptor.size === 0 || descriptor.size > mostDescriptorBytes) {
    throw unsafe(`descriptorSize is ${descriptor.size} bytes`)
  }
  const virtualSize = sectors(bytes, 12, 'capacity')
  if (virtualSize === 0) throw unsafe('capacity is 0')
  const isAtEnd = bytes.readBigUInt64LE(56) === directoryAtEnd
  if (isAtEnd && !isCompressed) throw unsafe('its grain directory is at the end (gdOffset)')
  return {
    virtualSize,
    grainBytes: Number(grainSectors) * sectorBytes,
    tableEntries,
    directoryOffset: isAtEnd ? undefined : sectors(bytes, 56, 'gdOffset'),
    overheadBytes: sectors(bytes, 64, 'overHead'),
    isCompressed,
    hasZeroGrains: (flags & flag.zeroGrains) !== 0,
    descriptor,
    bytes: Uint8Array.from(bytes),
  }
}

const createTypes = ['monolithicSparse', 'streamOptimized'] as const

/**
 * Judges the descriptor inside of a sparse VMDK: the disk must be this file and nothing else.
 * Throws IMAGE_UNSAFE.
 */
export function checkVmdkDescriptor(bytes: Uint8Array): void {
  const text = Buffer.from(bytes).toString('latin1').replace(/\0.*$/s, '')
  const lines = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  const values = new Map<string, string>()
  const extents: string[] = []
  for (const line of lines) {
    const pair = /^([\w.]+)\s*=\s*"?(.*?)"?$/.exec(line)
    if (/^(?:RW|RDONLY|NOACCESS)\s/i.test(line)) extents.push(line)
    else if (pair) values.set((pair[1] ?? '').toLowerCase(), pair[2] ?? '')
    else throw unsafe(`its descriptor has a line ${JSON.stringify(line.slice(0, 80))}`)
  }
  const createType = values.get('createtype') ?? ''
  if (!createTypes.some((known) => known === createType)) {
    throw unsafe(
      `createType is ${JSON.stringify(createType.slice(0, 80))}; ${createTypes.join(' and ')} are read: others name further files`,
    )
  }
  const parent = values.get('parentcid')?.toLowerCase()
  if (parent !== undefined && !/^f{8}$/.test(parent)) {
    throw unsafe(`parentCID is ${parent.slice(0, 80)}: it needs its parent; merge it first`)
  }
  if (values.has('parentfilenamehint')) {
    throw unsafe('parentFileNameHint names another disk that it needs; merge it first')
  }
  const [extent = '', second] = extents
  if (second !== undefined || !/^RW\s+\d+\s+SPARSE\s+"[^"/\\]+"$/i.test(extent)) {
    throw unsafe(
      `its descriptor names ${extents.length} extents; one of type SPARSE, this file, is read`,
    )
  }
}

/** A 64-bit number of sectors, in bytes. */
function sectors(bytes: Buffer, at: number, field: string): number {
  const value = bytes.readBigUInt64LE(at) * BigInt(sectorBytes)
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw unsafe(`${field} is ${value} bytes`)
  return Number(value)
}

export const unsafe = (reason: string) => imageUnsafe('vmdk', reason)

function unsupported(reason: string): CodedError {
  return new CodedError('FORMAT_UNSUPPORTED', `the vmdk cannot be read: ${reason}`)
}
