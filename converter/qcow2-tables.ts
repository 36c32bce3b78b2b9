import { clusterBytes } from './cluster-batch.ts'
import {
  clustersPerL2,
  headerCluster,
  l1Table,
  layOut,
  refcountTable,
  writeOffset,
  type MetadataLayout,
} from './qcow2-metadata.ts'
import {
  compressedFlag,
  compressedSectorBytes,
  copiedFlag,
  tableEntryBytes,
} from './qcow2-layout.ts'
import { createRefcounts } from './refcounts.ts'
import { createSpill } from './spill.ts'

/** Bits of a compressed cluster's offset in its L2 entry; the number of sectors lies above. */
const compressedOffsetBits = 62 - (Math.log2(clusterBytes) - 8)

/**
 * Collects where the data clusters went, as offsets from the start of a data region whose place
 * in the file is known only at the end, and writes the tables for it.
 */
export interface Qcow2Tables extends AsyncDisposable {
  /** To be called before the clusters of each batch, with its first guest cluster, ascending. */
  begin(guestCluster: number): Promise<void>
  addPlain(guestCluster: number, offset: number): void
  addFrame(guestCluster: number, offset: number, size: number): void
  /** No cluster may be added after it. */
  finish(virtualSize: number): Promise<MetadataLayout>
  /** The file up to the data region; after `finish`, as often as asked. */
  metadata(virtualSize: number, layout: MetadataLayout): AsyncGenerator<Uint8Array, void>
}

/** Tables larger than `memoryBytes` (L2 tables and refcounts each) go to a file in `folder`. */
export function createQcow2Tables(options: {
  readonly folder: string
  readonly memoryBytes: number
}): Qcow2Tables {
  const l2Tables = createSpill(options)
  const l2Indexes: number[] = []
  const refcounts = createRefcounts(options)
  const current = Buffer.alloc(clusterBytes)
  let currentIndex = 0
  let isCurrentUsed = false

  async function endL2(): Promise<void> {
    if (!isCurrentUsed) return
    await l2Tables.append(current)
    l2Indexes.push(currentIndex)
    current.fill(0)
    isCurrentUsed = false
  }

  async function* relocated(dataStart: number): AsyncGenerator<Uint8Array, void> {
    for await (const bytes of l2Tables.read()) {
      relocate(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), dataStart)
      yield bytes
    }
  }

  return {
    async begin(guestCluster) {
      const index = Math.floor(guestCluster / clustersPerL2)
      if (index !== currentIndex) await endL2()
      currentIndex = index
      await refcounts.settle()
    },
    addPlain(guestCluster, offset) {
      isCurrentUsed = true
      writeOffset(current, guestCluster % clustersPerL2, offset, copiedFlag)
      refcounts.add(offset, clusterBytes)
    },
    addFrame(guestCluster, offset, size) {
      isCurrentUsed = true
      const sectors =
        Math.floor((offset + size - 1) / compressedSectorBytes) -
        Math.floor(offset / compressedSectorBytes)
      const flags = compressedFlag | (sectors << (compressedOffsetBits - 32))
      writeOffset(current, guestCluster % clustersPerL2, offset, flags)
      refcounts.add(offset, size)
    },
    async finish(virtualSize) {
      await endL2()
      return layOut(virtualSize, l2Indexes.length, refcounts.clusters)
    },
    async *metadata(virtualSize, layout) {
      yield headerCluster(virtualSize, layout)
      yield l1Table(layout, l2Indexes)
      yield refcountTable(layout)
      yield* refcounts.blocks(layout.clusters, layout.refcountBlocks)
      yield* relocated(layout.clusters * clusterBytes)
    },
    async [Symbol.asyncDispose]() {
      await l2Tables[Symbol.asyncDispose]()
      await refcounts[Symbol.asyncDispose]()
    },
  }
}

/** Moves the entries of whole L2 tables from offsets in the data region to offsets in the file. */
function relocate(tables: Buffer, dataStart: number): void {
  for (let at = 0; at < tables.length; at += tableEntryBytes) {
    const hi = tables.readUInt32BE(at)
    if (hi === 0) continue
    const isCompressed = (hi & compressedFlag) !== 0
    const offsetMask = isCompressed ? 2 ** (compressedOffsetBits - 32) - 1 : 0xff_ff_ff
    const offset = (hi & offsetMask) * 2 ** 32 + tables.readUInt32BE(at + 4)
    writeOffset(tables, at / tableEntryBytes, offset + dataStart, hi & ~offsetMask)
  }
}
