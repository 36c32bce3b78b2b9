import type { DiskFile, MapDisk } from '../one-pass.ts'
import { compressedFlag, tableEntryBytes } from '../qcow2-layout.ts'
import { createMetadataMap, type MetadataMap } from '../qcow2-metadata-map.ts'
import type { MappedRun } from '../run-queue.ts'
import {
  compressedCluster,
  inHeader,
  l2TableOffset,
  requireCluster,
  reservedBits,
  standardCluster,
  standardOffset,
  type Qcow2Entry,
} from './qcow2-entries.ts'
import type { Qcow2Header } from './qcow2-header.ts'
import { imageUnsafe } from './refusal.ts'

const subclusters = 32
const runBytes = 1024 * 1024

/** A piece of the disk that one L2 entry, or one part of it, maps. */
interface Piece {
  readonly start: number
  readonly size: number
  readonly guest: number
  readonly isPacked: boolean
}

/**
 * The active state of a qcow2, internal snapshots aside. L2 tables are read in the order of the
 * file. Throws IMAGE_UNSAFE for entries that break the format or map the image's own tables.
 * @see QEMU docs/interop/qcow2.rst
 */
export function mapQcow2(header: Qcow2Header): MapDisk {
  return async function* map(file) {
    const { clusterSize, l1Offset, refcountTableOffset, refcountTableClusters } = header
    const offsets = await readL1(header, file)
    const l1End = l1Offset + header.l1Size * tableEntryBytes
    const refcountTableEnd = refcountTableOffset + refcountTableClusters * clusterSize
    const metadata = createMetadataMap(
      [
        { start: 0, end: clusterSize },
        { start: l1Offset, end: l1End },
        { start: refcountTableOffset, end: refcountTableEnd },
      ],
      [offsets],
      clusterSize,
    )
    const inOrder = Uint32Array.from(offsets.keys()).sort((a, b) => at(offsets, a) - at(offsets, b))
    for (const index of inOrder) {
      const offset = at(offsets, index)
      if (offset === 0) continue
      const bytes = await file.read(offset, clusterSize, 'an L2 table')
      yield* runsOf([...pieces(header, index, bytes, metadata)], header)
    }
  }
}

async function readL1(header: Qcow2Header, file: DiskFile): Promise<Float64Array> {
  const { l1Size, l1Offset, clusterSize } = header
  const bytes = await file.read(l1Offset, l1Size * tableEntryBytes, 'the L1 table')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return Float64Array.from({ length: l1Size }, (_, index) => {
    const hi = view.getUint32(index * tableEntryBytes)
    const lo = view.getUint32(index * tableEntryBytes + 4)
    const offset = l2TableOffset(hi, lo)
    if (offset % clusterSize !== 0) throw unsafe(`an L2 table is at byte ${offset}, not aligned`)
    return offset
  })
}

/** What one L2 table maps, in guest order. */
function* pieces(
  header: Qcow2Header,
  l1Index: number,
  bytes: Uint8Array,
  metadata: MetadataMap,
): Generator<Piece, void> {
  const { clusterSize, virtualSize, l2EntryBytes } = header
  const entries = clusterSize / l2EntryBytes
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let entry = 0; entry < entries; entry++) {
    const guest = (l1Index * entries + entry) * clusterSize
    if (guest >= virtualSize) return
    const hi = view.getUint32(entry * l2EntryBytes)
    const lo = view.getUint32(entry * l2EntryBytes + 4)
    const cluster = { hi, lo, guest }
    if ((hi & compressedFlag) !== 0) yield compressedPiece(header, cluster, metadata)
    else if (l2EntryBytes === tableEntryBytes) yield* wholeCluster(header, cluster, metadata)
    else {
      const zero = view.getUint32(entry * l2EntryBytes + 8)
      const data = view.getUint32(entry * l2EntryBytes + 12)
      yield* partsOfCluster(header, { ...cluster, zero, data }, metadata)
    }
  }
}

function compressedPiece(header: Qcow2Header, entry: Qcow2Entry, metadata: MetadataMap): Piece {
  const { start, end } = compressedCluster(entry, header, metadata)
  return { start, size: end - start, guest: entry.guest, isPacked: true }
}

function* wholeCluster(
  header: Qcow2Header,
  entry: Qcow2Entry,
  metadata: MetadataMap,
): Generator<Piece, void> {
  const found = standardCluster(entry, header, metadata)
  if (!found || found.isZero) return
  const { guest } = entry
  const size = Math.min(header.clusterSize, header.virtualSize - guest)
  yield { start: found.start, size, guest, isPacked: false }
}

/** Extended L2: 32 parts of a cluster, each with data, zeros or nothing. */
function* partsOfCluster(
  { clusterSize, virtualSize }: Qcow2Header,
  { hi, lo, guest, zero, data }: Qcow2Entry & { readonly zero: number; readonly data: number },
  metadata: MetadataMap,
): Generator<Piece, void> {
  if ((lo & 0x1ff) !== 0 || (hi & 0x3f_00_00_00) !== 0 || (zero & data) !== 0) {
    throw reservedBits(guest)
  }
  const start = standardOffset(hi, lo)
  if (start === 0) {
    if (data === 0) return
    throw inHeader(guest)
  }
  requireCluster(start, guest, clusterSize, metadata)
  const partBytes = clusterSize / subclusters
  for (let part = 0; part < subclusters; part++) {
    if (((data >>> part) & 1) === 0) continue
    const inCluster = part * partBytes
    const size = Math.min(partBytes, virtualSize - guest - inCluster)
    if (size <= 0) return
    yield { start: start + inCluster, size, guest: guest + inCluster, isPacked: false }
  }
}

/** Plain pieces that adjoin in the file and on the disk are one run. */
function* runsOf(some: Piece[], { compressionType }: Qcow2Header): Generator<MappedRun, void> {
  const packing = compressionType === 'zstd' ? 'zstd' : 'deflate'
  let run: MappedRun | undefined
  for (const piece of some.sort((a, b) => a.start - b.start)) {
    const continues =
      run?.packing === 'plain' &&
      !piece.isPacked &&
      piece.start === run.start + run.size &&
      piece.guest === run.guest + run.size &&
      run.size + piece.size <= runBytes
    if (run && continues) {
      run = { ...run, size: run.size + piece.size }
      continue
    }
    if (run) yield run
    const { start, size, guest, isPacked } = piece
    run = { start, size, guest, packing: isPacked ? packing : 'plain' }
  }
  if (run) yield run
}

const at = (numbers: Float64Array, index: number): number => numbers[index] ?? 0

const unsafe = (reason: string) => imageUnsafe('qcow2', reason)
