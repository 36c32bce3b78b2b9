import { CodedError } from '../core/errors.ts'
import type { Qcow2Header } from './formats/qcow2-header.ts'
import { compressedFlag, compressedSectorBytes, tableEntryBytes } from './qcow2-layout.ts'
import { createMetadataMap, type MetadataMap } from './qcow2-metadata-map.ts'

export interface CheckQcow2Options {
  /** `length` bytes at `offset` of the file; never asked beyond `fileSize`. */
  readAt(offset: number, length: number): Promise<Uint8Array>
  readonly fileSize: number
  readonly signal: AbortSignal
}

/** The most that is read at once. */
const pieceBytes = 1024 * 1024

/**
 * Proves that all a qcow2 maps lies inside its file: L1, refcount table and blocks, every L2 table
 * and every data cluster (of the last one, what the virtual size covers). Also that guest data
 * cannot be its own metadata: no entry points at the header or a table, no table is used twice.
 * Throws IMAGE_INCOMPLETE for what lies past the end, IMAGE_UNSAFE for entries that break the
 * format. Memory is bounded by the L1 and refcount tables (at most 80 MiB), work by the file size.
 * Refcounts are not compared and compressed data is not decompressed.
 */
export async function checkQcow2Complete(
  header: Qcow2Header,
  options: CheckQcow2Options,
): Promise<{ allocatedClusters: number }> {
  const { fileSize, signal } = options
  const { clusterSize, l1Offset, refcountTableOffset } = header
  const l1Bytes = header.l1Size * tableEntryBytes
  const refcountTableBytes = header.refcountTableClusters * clusterSize
  needInside('the L1 table', l1Offset, l1Bytes, fileSize)
  needInside('the refcount table', refcountTableOffset, refcountTableBytes, fileSize)

  const blocks = await readOffsets(options, refcountTableOffset, refcountTableBytes, (hi, lo) => {
    if ((lo & 0x1ff) !== 0) throw unsafe('a refcount table entry has reserved bits set')
    return hi * 2 ** 32 + lo
  })
  const tables = await readOffsets(options, l1Offset, l1Bytes, (hi, lo) => {
    if ((lo & 0x1ff) !== 0 || (hi & 0x7f_00_00_00) !== 0) {
      throw unsafe('an L1 entry has reserved bits set')
    }
    return standardOffset(hi, lo)
  })
  const fixed = [
    { start: 0, end: clusterSize },
    { start: l1Offset, end: l1Offset + l1Bytes },
    { start: refcountTableOffset, end: refcountTableOffset + refcountTableBytes },
  ]
  for (const offset of blocks) checkTable('a refcount block', offset, clusterSize, fileSize)
  for (const offset of tables) checkTable('an L2 table', offset, clusterSize, fileSize)
  const metadata = createMetadataMap(fixed, [blocks, tables], clusterSize)

  let allocatedClusters = 0
  for await (const { index, bytes } of readTables(tables, clusterSize, options)) {
    signal.throwIfAborted()
    allocatedClusters += checkL2(header, index, bytes, metadata, fileSize)
  }
  return { allocatedClusters }
}

/** The offsets of a table of 8-byte entries as it stands, zeros included. */
async function readOffsets(
  { readAt, signal }: CheckQcow2Options,
  offset: number,
  size: number,
  parse: (hi: number, lo: number) => number,
): Promise<Float64Array> {
  const offsets = new Float64Array(size / tableEntryBytes)
  for (let at = 0; at < size; at += pieceBytes) {
    signal.throwIfAborted()
    const piece = await readAt(offset + at, Math.min(pieceBytes, size - at))
    const view = new DataView(piece.buffer, piece.byteOffset, piece.length)
    for (let inPiece = 0; inPiece < piece.length; inPiece += tableEntryBytes) {
      const value = parse(view.getUint32(inPiece), view.getUint32(inPiece + 4))
      offsets[(at + inPiece) / tableEntryBytes] = value
    }
  }
  return offsets
}

/** The L2 tables in guest order; tables that follow each other in the file are read together. */
async function* readTables(
  tables: Float64Array,
  clusterSize: number,
  { readAt }: CheckQcow2Options,
): AsyncGenerator<{ index: number; bytes: Uint8Array }, void> {
  const mostTables = Math.max(1, pieceBytes / clusterSize)
  let index = 0
  while (index < tables.length) {
    const first = tables[index] ?? 0
    if (first === 0) {
      index++
      continue
    }
    let count = 1
    while (count < mostTables && tables[index + count] === first + count * clusterSize) count++
    const bytes = await readAt(first, count * clusterSize)
    for (let table = 0; table < count; table++) {
      const start = table * clusterSize
      yield { index: index + table, bytes: bytes.subarray(start, start + clusterSize) }
    }
    index += count
  }
}

/** Checks the entries of one L2 table; returns how many map data. */
function checkL2(
  header: Qcow2Header,
  l1Index: number,
  bytes: Uint8Array,
  metadata: MetadataMap,
  fileSize: number,
): number {
  const { clusterSize, virtualSize } = header
  const entries = clusterSize / tableEntryBytes
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let mapped = 0
  for (let entry = 0; entry < entries; entry++) {
    const hi = view.getUint32(entry * tableEntryBytes)
    const lo = view.getUint32(entry * tableEntryBytes + 4)
    if (hi === 0 && lo === 0) continue
    const guest = (l1Index * entries + entry) * clusterSize
    const what = `the cluster of guest byte ${guest}`
    if ((hi & compressedFlag) !== 0) {
      const { start, end } = compressedExtent(hi, lo, header.clusterBits)
      if (hi >>> 31 !== 0) throw unsafe(`${what} is compressed and marked as writable in place`)
      needInside(what, start, end - start, fileSize)
      refuseMetadata(what, start, end, metadata)
      mapped++
      continue
    }
    const offset = standardOffset(hi, lo)
    const isZero = (lo & 1) === 1
    if ((lo & 0x1fe) !== 0 || (hi & 0x3f_00_00_00) !== 0 || (isZero && header.version === 2)) {
      throw unsafe(`the L2 entry of guest byte ${guest} has reserved bits set`)
    }
    if (offset === 0) {
      if (isZero && hi >>> 31 === 0) continue
      throw unsafe(`${what} is mapped to the header`)
    }
    if (offset % clusterSize !== 0) throw unsafe(`${what} is at byte ${offset}, not aligned`)
    refuseMetadata(what, offset, offset + clusterSize, metadata)
    if (isZero) continue
    needInside(what, offset, Math.min(clusterSize, Math.max(0, virtualSize - guest)), fileSize)
    mapped++
  }
  return mapped
}

function compressedExtent(hi: number, lo: number, clusterBits: number) {
  const offsetBits = 62 - (clusterBits - 8)
  const sectors = (hi & 0x3f_ff_ff_ff) >>> (offsetBits - 32)
  const start = (hi & (2 ** (offsetBits - 32) - 1)) * 2 ** 32 + lo
  const sector = start - (start % compressedSectorBytes)
  return { start, end: sector + (sectors + 1) * compressedSectorBytes }
}

/** Bits 9–55. */
function standardOffset(hi: number, lo: number): number {
  return (hi & 0xff_ff_ff) * 2 ** 32 + (lo - (lo & 0x1ff))
}

function checkTable(what: string, offset: number, clusterSize: number, fileSize: number): void {
  if (offset === 0) return
  if (offset % clusterSize !== 0) throw unsafe(`${what} is at byte ${offset}, not aligned`)
  needInside(what, offset, clusterSize, fileSize)
}

function refuseMetadata(what: string, start: number, end: number, metadata: MetadataMap): void {
  if (!metadata.overlaps(start, end)) return
  throw unsafe(`${what} is mapped to byte ${start}, which holds the image's own tables`)
}

function needInside(what: string, offset: number, size: number, fileSize: number): void {
  const end = offset + size
  if (end <= fileSize) return
  throw new CodedError(
    'IMAGE_INCOMPLETE',
    `the qcow2 is cut off: ${what} ends at byte ${end}, the file at ${fileSize}; check the source file`,
    { detail: { offset, end, fileSize } },
  )
}

function unsafe(reason: string): CodedError {
  return new CodedError('IMAGE_UNSAFE', `the qcow2 is refused: ${reason}`)
}
