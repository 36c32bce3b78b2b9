import { CodedError } from '../../core/errors.ts'
import { imageUnsafe } from './refusal.ts'
import { checkHeaderExtensions } from './qcow2-extensions.ts'
import { incompatibleBits, qcow2Magic, tableEntryBytes } from '../qcow2-layout.ts'

/** The header of a qcow2 that is safe to read: no other file, no encryption, no unknown feature. */
export interface Qcow2Header {
  readonly version: 2 | 3
  readonly clusterBits: number
  readonly clusterSize: number
  /** Bytes; a multiple of 512, more than 0. */
  readonly virtualSize: number
  /** Of an L2 table: 16 where clusters have parts of their own, else 8. */
  readonly l2EntryBytes: 8 | 16
  /** Why a node should not be given the file as it is; `undefined` where it may. */
  readonly unclean: string | undefined
  /** Entries, at least as many as the virtual size needs. */
  readonly l1Size: number
  readonly l1Offset: number
  readonly refcountTableOffset: number
  readonly refcountTableClusters: number
  readonly refcountBits: number
  readonly compressionType: 'zlib' | 'zstd'
  readonly hasLazyRefcounts: boolean
  readonly compatibleFeatures: bigint
  readonly autoclearFeatures: bigint
  /** Bytes of the header proper; the extensions follow. */
  readonly headerLength: number
}

/** QEMU's bounds of the tables it reads into memory. */
const maxL1Bytes = 32 * 1024 * 1024
const maxRefcountTableBytes = 8 * 1024 * 1024
const maxSnapshots = 65_536

/**
 * Reads and judges the header in the first 64 KiB (fewer where the file is shorter) of a qcow2.
 * Throws IMAGE_UNSAFE for what could reach another file or breaks the format, FORMAT_UNSUPPORTED
 * for what is not read (yet), IMAGE_INCOMPLETE where the header is cut off.
 */
export function parseQcow2Header(head: Uint8Array): Qcow2Header {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.length)
  need(bytes, 8)
  if (bytes.readUInt32BE(0) !== qcow2Magic) {
    throw new CodedError('FORMAT_UNKNOWN', 'not a qcow2: the magic number is missing')
  }
  const version = bytes.readUInt32BE(4)
  if (version === 1) {
    throw unsupported(
      'the image is a qcow of version 1, which is not read; convert it first: qemu-img convert -f qcow -O qcow2',
    )
  }
  if (version !== 2 && version !== 3) {
    throw unsupported(`the qcow2 has version ${version}; versions 2 and 3 are read`)
  }
  need(bytes, version === 2 ? 72 : 104)
  refuseOtherFiles(bytes)
  const features = parseFeatures(bytes, version)

  const clusterBits = bytes.readUInt32BE(20)
  if (clusterBits < 9 || clusterBits > 21) {
    throw unsafe(`cluster_bits is ${clusterBits}; 9 to 21 are valid`)
  }
  const clusterSize = 2 ** clusterBits
  const { headerLength } = features
  if (headerLength > clusterSize) {
    throw unsafe(`header_length is ${headerLength}, more than a cluster of ${clusterSize} bytes`)
  }
  checkHeaderExtensions(bytes, headerLength, clusterSize)
  const { l2EntryBytes } = features
  if (l2EntryBytes !== tableEntryBytes && clusterBits < 14) {
    throw unsafe(`cluster_bits is ${clusterBits} with extended L2 entries; 14 to 21 are valid`)
  }
  const snapshots = bytes.readUInt32BE(60)
  if (snapshots > maxSnapshots) {
    throw unsafe(`nb_snapshots is ${snapshots}, more than the ${maxSnapshots} that QEMU reads`)
  }
  const unclean = snapshots > 0 ? `it holds ${snapshots} internal snapshots` : features.unclean
  const tables = parseTables(bytes, clusterSize, l2EntryBytes)
  return { ...features, unclean, clusterBits, clusterSize, ...tables }
}

function refuseOtherFiles(bytes: Buffer): void {
  const backingOffset = bytes.readBigUInt64BE(8)
  if (backingOffset !== 0n) {
    const length = Math.min(bytes.readUInt32BE(16), 1023, 200)
    const start = Number(backingOffset)
    const name =
      start + length <= bytes.length
        ? ` ${JSON.stringify(bytes.toString('latin1', start, start + length))}`
        : ''
    throw unsafe(
      `it needs a backing file${name}, and other files are never opened; flatten it first: qemu-img convert -O qcow2`,
    )
  }
  const encryption = bytes.readUInt32BE(32)
  if (encryption !== 0) {
    throw unsupported(
      `the qcow2 is encrypted (method ${encryption}), which is not read; decrypt it first with qemu-img convert`,
    )
  }
}

function parseFeatures(bytes: Buffer, version: 2 | 3) {
  if (version === 2) {
    const none = { compatibleFeatures: 0n, autoclearFeatures: 0n, hasLazyRefcounts: false }
    const compressionType: 'zlib' | 'zstd' = 'zlib'
    const l2EntryBytes: 8 | 16 = 8
    const plain = { refcountBits: 16, headerLength: 72, compressionType, l2EntryBytes }
    return { version, ...none, ...plain, unclean: undefined }
  }
  const incompatible = bytes.readBigUInt64BE(72)
  const has = (bit: number): boolean => ((incompatible >> BigInt(bit)) & 1n) === 1n
  if (has(incompatibleBits.externalDataFile)) {
    throw unsafe(
      'its data is in an external data file, and other files are never opened; flatten it first: qemu-img convert -O qcow2',
    )
  }
  if (incompatible >> 5n !== 0n) {
    throw unsupported(
      `the qcow2 has unknown incompatible features (0x${incompatible.toString(16)}); convert it first: qemu-img convert -O qcow2`,
    )
  }
  if (has(incompatibleBits.corrupt)) {
    throw unsafe('it is marked corrupt; repair it first: qemu-img check -r all')
  }
  const l2EntryBytes: 8 | 16 = has(incompatibleBits.extendedL2) ? 16 : 8
  const refcountOrder = bytes.readUInt32BE(96)
  if (refcountOrder > 6) throw unsafe(`refcount_order is ${refcountOrder}; 0 to 6 are valid`)
  const headerLength = bytes.readUInt32BE(100)
  if (headerLength < 104 || headerLength % 8 !== 0) {
    throw unsafe(`header_length is ${headerLength}; multiples of 8 from 104 on are valid`)
  }
  const compatibleFeatures = bytes.readBigUInt64BE(80)
  return {
    version,
    compatibleFeatures,
    autoclearFeatures: bytes.readBigUInt64BE(88),
    hasLazyRefcounts: (compatibleFeatures & 1n) === 1n,
    refcountBits: 2 ** refcountOrder,
    headerLength,
    compressionType: parseCompressionType(bytes, headerLength, has(3)),
    l2EntryBytes,
    unclean: uncleanOf(has),
  }
}

function parseCompressionType(
  bytes: Buffer,
  headerLength: number,
  hasBit: boolean,
): 'zlib' | 'zstd' {
  if (headerLength >= 112) need(bytes, 112)
  const type = headerLength >= 112 ? bytes.readUInt8(104) : 0
  if (type > 1) throw unsupported(`the qcow2 has compression type ${type}; zlib and zstd are read`)
  if (hasBit !== (type !== 0)) {
    throw unsafe(`compression type ${type} contradicts the header's compression bit`)
  }
  return type === 1 ? 'zstd' : 'zlib'
}

/** Everything that a node's QEMU may not read, or not without writing. */
function uncleanOf(has: (bit: number) => boolean): string | undefined {
  if (has(incompatibleBits.dirty)) return 'it was not closed cleanly (dirty bit)'
  return has(incompatibleBits.extendedL2) ? 'it has extended L2 entries' : undefined
}

function parseTables(bytes: Buffer, clusterSize: number, l2EntryBytes: number) {
  const virtualSize = bytes.readBigUInt64BE(24)
  if (virtualSize === 0n || virtualSize % 512n !== 0n || virtualSize > Number.MAX_SAFE_INTEGER) {
    throw unsafe(`its virtual size is ${virtualSize} bytes; multiples of 512 above 0 are valid`)
  }
  const l1Size = bytes.readUInt32BE(36)
  const covered = BigInt(clusterSize) * BigInt(clusterSize / l2EntryBytes)
  const l1Needed = (virtualSize + covered - 1n) / covered
  if (BigInt(l1Size) < l1Needed) {
    throw unsafe(`its L1 table has ${l1Size} entries, its virtual size needs ${l1Needed}`)
  }
  if (l1Size * tableEntryBytes > maxL1Bytes) {
    throw unsafe(`its L1 table has ${l1Size} entries, more than QEMU reads`)
  }
  const refcountTableClusters = bytes.readUInt32BE(56)
  const refcountTableBytes = refcountTableClusters * clusterSize
  if (refcountTableClusters === 0 || refcountTableBytes > maxRefcountTableBytes) {
    throw unsafe(`its refcount table has ${refcountTableClusters} clusters`)
  }
  const l1Offset = tableOffset(bytes.readBigUInt64BE(40), clusterSize, 'L1 table')
  const refcountTableOffset = tableOffset(bytes.readBigUInt64BE(48), clusterSize, 'refcount table')
  if (
    l1Offset < refcountTableOffset + refcountTableBytes &&
    refcountTableOffset < l1Offset + l1Size * tableEntryBytes
  ) {
    throw unsafe(
      `its L1 table (at ${l1Offset}) and refcount table (at ${refcountTableOffset}) overlap`,
    )
  }
  return {
    virtualSize: Number(virtualSize),
    l1Size,
    l1Offset,
    refcountTableOffset,
    refcountTableClusters,
  }
}

function tableOffset(offset: bigint, clusterSize: number, what: string): number {
  if (offset === 0n || offset % BigInt(clusterSize) !== 0n || offset >= 1n << 52n) {
    throw unsafe(
      `its ${what} is at byte ${offset}; multiples of the cluster size (${clusterSize}) behind the header are valid`,
    )
  }
  return Number(offset)
}

function need(bytes: Uint8Array, size: number): void {
  if (bytes.length >= size) return
  throw new CodedError(
    'IMAGE_INCOMPLETE',
    `the qcow2 header is cut off: ${size} bytes are needed, ${bytes.length} are there`,
  )
}

const unsafe = (reason: string) => imageUnsafe('qcow2', reason)

function unsupported(message: string): CodedError {
  return new CodedError('FORMAT_UNSUPPORTED', message)
}
