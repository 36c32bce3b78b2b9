import { clusterBytes } from './cluster-batch.ts'
import { createSpill } from './spill.ts'

/** Counts the references to each cluster of the data region, which grows almost in order. */
export interface Refcounts extends AsyncDisposable {
  /** Clusters of the region that are counted. */
  readonly clusters: number
  /** One reference to every cluster that `[offset, offset + size)` touches. */
  add(offset: number, size: number): void
  /** Puts away counts that no longer change; to be called after at most one batch. */
  settle(): Promise<void>
  /** The refcount blocks of a file with `metadataClusters` clusters before the region. */
  blocks(metadataClusters: number, count: number): AsyncGenerator<Uint8Array, void>
}

const refcountBytes = 2
const windowClusters = 8192
/** More clusters than lie between the oldest count that can still change and the newest. */
const unsettledClusters = 256

/** Counts above `memoryBytes` go to a file in `folder`. */
export function createRefcounts(options: {
  readonly folder: string
  readonly memoryBytes: number
}): Refcounts {
  const settled = createSpill(options)
  const window = Buffer.alloc(windowClusters * refcountBytes)
  let windowStart = 0
  let clusters = 0

  return {
    get clusters() {
      return clusters
    },
    add(offset, size) {
      const last = Math.floor((offset + size - 1) / clusterBytes)
      for (let cluster = Math.floor(offset / clusterBytes); cluster <= last; cluster++) {
        const at = (cluster - windowStart) * refcountBytes
        window.writeUInt16BE(window.readUInt16BE(at) + 1, at)
      }
      clusters = Math.max(clusters, last + 1)
    },
    async settle() {
      const inWindow = clusters - windowStart
      if (inWindow < windowClusters - unsettledClusters) return
      const done = inWindow - unsettledClusters
      await settled.append(window.subarray(0, done * refcountBytes))
      window.copyWithin(0, done * refcountBytes, inWindow * refcountBytes)
      window.fill(0, unsettledClusters * refcountBytes)
      windowStart += done
    },
    async *blocks(metadataClusters, count) {
      const ones = Buffer.alloc(metadataClusters * refcountBytes)
      for (let at = 1; at < ones.length; at += refcountBytes) ones[at] = 1
      yield ones
      yield* settled.read()
      yield Buffer.from(window.subarray(0, (clusters - windowStart) * refcountBytes))
      const free = count * clusterBytes - (metadataClusters + clusters) * refcountBytes
      yield Buffer.alloc(free)
    },
    [Symbol.asyncDispose]: () => settled[Symbol.asyncDispose](),
  }
}
