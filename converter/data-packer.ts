import { batchBytes, clusterBytes } from './cluster-batch.ts'

/** Lays stored clusters out in the data region and writes it in file order. */
export interface DataPacker {
  /**
   * Appends one zstd frame, shorter than a cluster, or one plain cluster; returns its offset in the
   * region, of a plain cluster a multiple of the cluster size.
   */
  add(stored: Uint8Array): number
  /** Writes what may be written; to be called after each batch. */
  flush(): Promise<void>
  /** As `add`, of bytes that an earlier packer was given: they are not written again. */
  skip(size: number): number
  /** As `flush`, for clusters that were skipped. */
  skipFlush(): void
  /** A copy of what is laid out and not written yet. */
  staged(): Uint8Array
  /** Ends skipping: `staged` of the earlier packer. False where it is not of these clusters. */
  restore(staged: Uint8Array): boolean
  /** Pads to 512 bytes and writes the rest; resolves to the size of the region. */
  finish(): Promise<number>
}

const sectorBytes = 512
const flushBytes = 1024 * 1024
/** Plain clusters that may follow a gap before it is given up. */
const plainBehindGap = 16

/**
 * The layout rule, a function of the stored clusters in guest order only. Frames are packed back
 * to back across cluster borders. A plain cluster goes to the next free whole cluster; the gap
 * before it takes the following frames, one behind the other, until one does not fit or 16 plain
 * clusters follow it; then the gap stays zero. The region is padded to a multiple of 512 bytes.
 * `write` gets pieces of at most 1 MiB that are valid until it resolves.
 */
export function createDataPacker(write: (chunk: Uint8Array) => Promise<void>): DataPacker {
  // What a flush leaves behind is less than it writes at once, or the gap and what follows it.
  const unflushed = flushBytes + (plainBehindGap + 2) * clusterBytes
  const staging = Buffer.alloc(unflushed + batchBytes + clusterBytes)
  /** Offset in the region of the first staged byte; a multiple of the cluster size. */
  let base = 0
  let used = 0
  let gap: { start: number; readonly end: number; plain: number } | undefined

  async function writeStaged(end: number): Promise<void> {
    for (let at = 0; at < end; at += flushBytes) {
      await write(staging.subarray(at, Math.min(end, at + flushBytes)))
    }
    staging.copyWithin(0, end, used)
    forget(end)
  }

  function forget(end: number): void {
    base += end
    used -= end
    if (gap) gap = { start: gap.start - end, end: gap.end - end, plain: gap.plain }
  }

  function placeFrame(length: number): number {
    let at = used
    if (gap && length <= gap.end - gap.start) {
      at = gap.start
      gap.start += length
    } else {
      gap = undefined
      used += length
    }
    return at
  }

  function placePlain(): number {
    const inCluster = used % clusterBytes
    if (inCluster !== 0) {
      const start = used
      used += clusterBytes - inCluster
      staging.fill(0, start, used)
      gap = { start, end: used, plain: 0 }
    }
    if (gap && ++gap.plain > plainBehindGap) gap = undefined
    const at = used
    used += clusterBytes
    return at
  }

  /** How much can be written: all that no later frame may still go into, in whole clusters. */
  function settledBytes(): number {
    const settled = gap ? gap.start : used
    return settled >= flushBytes ? settled - (settled % clusterBytes) : 0
  }

  const place = (size: number): number =>
    base + (size === clusterBytes ? placePlain() : placeFrame(size))

  return {
    add(stored) {
      const at = place(stored.length)
      staging.set(stored, at - base)
      return at
    },
    skip: place,
    async flush() {
      const settled = settledBytes()
      if (settled > 0) await writeStaged(settled)
    },
    skipFlush: () => forget(settledBytes()),
    staged: () => Uint8Array.from(staging.subarray(0, used)),
    restore(staged) {
      if (staged.length !== used) return false
      staging.set(staged)
      return true
    },
    async finish() {
      gap = undefined
      const padding = (sectorBytes - (used % sectorBytes)) % sectorBytes
      staging.fill(0, used, used + padding)
      used += padding
      await writeStaged(used)
      return base
    },
  }
}
