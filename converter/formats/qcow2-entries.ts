import { compressedSectorBytes } from '../qcow2-layout.ts'
import type { MetadataMap } from '../qcow2-metadata-map.ts'
import type { Qcow2Header } from './qcow2-header.ts'
import { imageUnsafe } from './refusal.ts'

/** The two halves of an entry, and the guest byte that it is for. */
export interface Qcow2Entry {
  readonly hi: number
  readonly lo: number
  readonly guest: number
}

/** Of an L2 table, from its L1 entry; 0: none. Throws IMAGE_UNSAFE for reserved bits. */
export function l2TableOffset(hi: number, lo: number): number {
  if ((lo & 0x1ff) !== 0 || (hi & 0x7f_00_00_00) !== 0) {
    throw unsafe('an L1 entry has reserved bits set')
  }
  return standardOffset(hi, lo)
}

/** Bits 9–55. */
export function standardOffset(hi: number, lo: number): number {
  return (hi & 0xff_ff_ff) * 2 ** 32 + (lo - (lo & 0x1ff))
}

/**
 * Where a compressed cluster lies in the file, to the end of its last sector. Throws IMAGE_UNSAFE
 * where it is marked as writable in place or on the image's own tables.
 */
export function compressedCluster(
  { hi, lo, guest }: Qcow2Entry,
  { clusterBits }: Qcow2Header,
  metadata: MetadataMap,
): { readonly start: number; readonly end: number } {
  if (hi >>> 31 !== 0) {
    throw unsafe(`the cluster of guest byte ${guest} is compressed and marked as writable in place`)
  }
  const offsetBits = 62 - (clusterBits - 8)
  const sectors = (hi & 0x3f_ff_ff_ff) >>> (offsetBits - 32)
  const start = (hi & (2 ** (offsetBits - 32) - 1)) * 2 ** 32 + lo
  const end = start - (start % compressedSectorBytes) + (sectors + 1) * compressedSectorBytes
  refuseMetadata(guest, start, end, metadata)
  return { start, end }
}

/** Where a cluster of a standard entry lies; `undefined` where it has none of its own. */
export function standardCluster(
  entry: Qcow2Entry,
  { clusterSize, version }: Qcow2Header,
  metadata: MetadataMap,
): { readonly start: number; readonly isZero: boolean } | undefined {
  const { hi, lo, guest } = entry
  const isZero = (lo & 1) === 1
  if ((lo & 0x1fe) !== 0 || (hi & 0x3f_00_00_00) !== 0 || (isZero && version === 2)) {
    throw reservedBits(guest)
  }
  const start = standardOffset(hi, lo)
  if (start === 0) {
    if (hi >>> 31 === 0) return undefined
    throw inHeader(guest)
  }
  requireCluster(start, guest, clusterSize, metadata)
  return { start, isZero }
}

/** Throws IMAGE_UNSAFE unless a whole cluster of data may be there. */
export function requireCluster(
  start: number,
  guest: number,
  clusterSize: number,
  metadata: MetadataMap,
): void {
  if (start % clusterSize !== 0) {
    throw unsafe(`the cluster of guest byte ${guest} is at byte ${start}, not aligned`)
  }
  refuseMetadata(guest, start, start + clusterSize, metadata)
}

function refuseMetadata(guest: number, start: number, end: number, metadata: MetadataMap): void {
  if (!metadata.overlaps(start, end)) return
  throw unsafe(
    `the cluster of guest byte ${guest} is mapped to byte ${start}, which holds the image's own tables`,
  )
}

export const reservedBits = (guest: number) =>
  unsafe(`the L2 entry of guest byte ${guest} has reserved bits set`)

export const inHeader = (guest: number) =>
  unsafe(`the cluster of guest byte ${guest} is mapped to the header`)

const unsafe = (reason: string) => imageUnsafe('qcow2', reason)
