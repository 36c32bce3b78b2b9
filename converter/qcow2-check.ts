import { CodedError } from '../core/errors.ts'
import { createClusterClaims, type ClusterClaims } from './cluster-claims.ts'
import type { Qcow2Header } from './formats/qcow2-header.ts'
import { compressedCluster, l2TableOffset, standardCluster } from './formats/qcow2-entries.ts'
import { imageUnsafe } from './formats/refusal.ts'
import { compressedFlag, tableEntryBytes } from './qcow2-layout.ts'
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
 * cannot be its own metadata: no entry points at the header or a table, no table is used twice, and
 * no whole cluster holds the data of two places of the disk.
 * Throws IMAGE_INCOMPLETE for what lies past the end, IMAGE_UNSAFE for entries that break the
 * format. Memory is bounded by the L1 and refcount tables (at most 80 MiB) and two bits
 * for each cluster of the file, work by the file size. Refcounts are not compared and compressed data is not decompressed.
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
  const tables = await readOffsets(options, l1Offset, l1Bytes, l2TableOffset)
  const fixed = [
    { start: 0, end: clusterSize },
    { start: l1Offset, end: l1Offset + l1Bytes },
    { start: refcountTableOffset, end: refcountTableOffset + refcountTableBytes },
  ]
  for (const offset of blocks) checkTable('a refcount block', offset, clusterSize, fileSize)
  for (const offset of tables) checkTable('an L2 table', offset, clusterSize, fileSize)
  const metadata = createMetadataMap(fixed, [blocks, tables], clusterSize)

  const claims = createClusterClaims(fileSize, clusterSize)
  let allocatedClusters = 0
  for await (const { index, bytes } of readTables(tables, clusterSize, options)) {
    signal.throwIfAborted()
    allocatedClusters += checkL2(header, index, bytes, { metadata, claims, fileSize })
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

interface CheckedFile {
  readonly metadata: MetadataMap
  readonly claims: ClusterClaims
  readonly fileSize: number
}

/** Checks the entries of one L2 table; returns how many map data. */
function checkL2(
  header: Qcow2Header,
  l1Index: number,
  bytes: Uint8Array,
  { metadata, claims, fileSize }: CheckedFile,
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
    const found = { hi, lo, guest }
    if ((hi & compressedFlag) !== 0) {
      const { start, end } = compressedCluster(found, header, metadata)
      needInside(what, start, end - start, fileSize)
      if (!claims.claimPart(start, end)) throw shared(what)
      mapped++
      continue
    }
    const cluster = standardCluster(found, header, metadata)
    if (!cluster) continue
    if (!claims.claimWhole(cluster.start)) throw shared(what)
    if (cluster.isZero) continue
    needInside(
      what,
      cluster.start,
      Math.min(clusterSize, Math.max(0, virtualSize - guest)),
      fileSize,
    )
    mapped++
  }
  return mapped
}

function checkTable(what: string, offset: number, clusterSize: number, fileSize: number): void {
  if (offset === 0) return
  if (offset % clusterSize !== 0) throw unsafe(`${what} is at byte ${offset}, not aligned`)
  needInside(what, offset, clusterSize, fileSize)
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

const shared = (what: string) => unsafe(`${what} shares bytes of the file with another one`)

const unsafe = (reason: string) => imageUnsafe('qcow2', reason)
