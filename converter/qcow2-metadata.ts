import { clusterBytes } from './cluster-batch.ts'
import { copiedFlag, incompatibleBits, qcow2Magic, tableEntryBytes } from './qcow2-layout.ts'

/** Guest clusters that one L2 table maps. */
export const clustersPerL2 = clusterBytes / tableEntryBytes
const guestBytesPerL2 = clustersPerL2 * clusterBytes
/** Clusters that one block of 16-bit refcounts counts. */
const clustersPerRefcountBlock = clusterBytes / 2
const headerBytes = 112

/** Where the tables of an image of ours lie, in clusters from the file's start. */
export interface MetadataLayout {
  readonly l1Size: number
  readonly refcountTableStart: number
  readonly refcountTableClusters: number
  readonly refcountBlocksStart: number
  readonly refcountBlocks: number
  readonly l2Start: number
  /** All metadata; the data region starts here. */
  readonly clusters: number
}

/** Header, L1, refcount table, refcount blocks, `l2Tables` L2 tables, then `dataClusters`. */
export function layOut(
  virtualSize: number,
  l2Tables: number,
  dataClusters: number,
): MetadataLayout {
  const l1Size = Math.max(1, Math.ceil(virtualSize / guestBytesPerL2))
  const refcountTableStart = 1 + Math.ceil((l1Size * tableEntryBytes) / clusterBytes)
  let refcountTableClusters = 1
  let refcountBlocks = 1
  for (;;) {
    // The refcounts count their own clusters too.
    const refcountBlocksStart = refcountTableStart + refcountTableClusters
    const l2Start = refcountBlocksStart + refcountBlocks
    const clusters = l2Start + l2Tables
    const blocksNeeded = Math.ceil((clusters + dataClusters) / clustersPerRefcountBlock)
    const tableNeeded = Math.ceil((blocksNeeded * tableEntryBytes) / clusterBytes)
    if (blocksNeeded <= refcountBlocks && tableNeeded <= refcountTableClusters) {
      return {
        l1Size,
        refcountTableStart,
        refcountTableClusters,
        refcountBlocksStart,
        refcountBlocks,
        l2Start,
        clusters,
      }
    }
    refcountBlocks = Math.max(refcountBlocks, blocksNeeded)
    refcountTableClusters = Math.max(refcountTableClusters, tableNeeded)
  }
}

/**
 * Bytes that the metadata takes at most for a disk of at most `virtualSize` bytes: what a writer
 * must reserve before the data.
 */
export function metadataBound(virtualSize: number): number {
  const l2Tables = Math.ceil(virtualSize / guestBytesPerL2)
  // The packing rule never needs more clusters than the guest has.
  const dataClusters = Math.ceil(virtualSize / clusterBytes)
  return layOut(virtualSize, l2Tables, dataClusters).clusters * clusterBytes
}

/** The first cluster: a version 3 header with zstd compression, 16-bit refcounts, no extension. */
export function headerCluster(virtualSize: number, layout: MetadataLayout): Uint8Array {
  const header = Buffer.alloc(clusterBytes)
  header.writeUInt32BE(qcow2Magic, 0)
  header.writeUInt32BE(3, 4)
  header.writeUInt32BE(Math.log2(clusterBytes), 20)
  header.writeBigUInt64BE(BigInt(virtualSize), 24)
  header.writeUInt32BE(layout.l1Size, 36)
  header.writeBigUInt64BE(BigInt(clusterBytes), 40)
  header.writeBigUInt64BE(BigInt(layout.refcountTableStart * clusterBytes), 48)
  header.writeUInt32BE(layout.refcountTableClusters, 56)
  header.writeBigUInt64BE(1n << BigInt(incompatibleBits.compressionType), 72)
  header.writeUInt32BE(4, 96)
  header.writeUInt32BE(headerBytes, 100)
  header.writeUInt8(1, 104)
  return header
}

/** The L1 table in whole clusters; `l2Indexes`: which L2 tables there are, in file order. */
export function l1Table(layout: MetadataLayout, l2Indexes: readonly number[]): Uint8Array {
  const table = Buffer.alloc((layout.refcountTableStart - 1) * clusterBytes)
  for (const [at, index] of l2Indexes.entries()) {
    writeOffset(table, index, (layout.l2Start + at) * clusterBytes, copiedFlag)
  }
  return table
}

export function refcountTable(layout: MetadataLayout): Uint8Array {
  const table = Buffer.alloc(layout.refcountTableClusters * clusterBytes)
  for (let block = 0; block < layout.refcountBlocks; block++) {
    writeOffset(table, block, (layout.refcountBlocksStart + block) * clusterBytes, 0)
  }
  return table
}

/** Writes entry `index` of a table: `offset` and the flags of its upper half. */
export function writeOffset(table: Buffer, index: number, offset: number, flags: number): void {
  const at = index * tableEntryBytes
  table.writeUInt32BE((Math.floor(offset / 2 ** 32) | flags) >>> 0, at)
  table.writeUInt32BE(offset % 2 ** 32, at + 4)
}
