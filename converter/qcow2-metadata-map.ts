import { CodedError } from '../core/errors.ts'
import type { ByteRange } from '../core/registry.ts'

/** Where a qcow2 keeps its own tables. */
export interface MetadataMap {
  /** True where `[start, end)` of the file touches metadata; `end - start` spans few clusters. */
  overlaps(start: number, end: number): boolean
}

/**
 * `fixed`: the ranges of header and first-level tables; `tables`: cluster-aligned offsets of
 * one-cluster tables, 0 for none. Throws IMAGE_UNSAFE where two of them share a byte.
 */
export function createMetadataMap(
  fixed: readonly ByteRange[],
  tables: readonly Float64Array[],
  clusterSize: number,
): MetadataMap {
  let count = 0
  for (const offsets of tables) for (const offset of offsets) if (offset !== 0) count++
  const sorted = new Float64Array(count)
  let filled = 0
  for (const offsets of tables) {
    for (const offset of offsets) if (offset !== 0) sorted[filled++] = offset
  }
  sorted.sort()

  const inFixed = (start: number, end: number): boolean =>
    fixed.some((range) => start < range.end && range.start < end)

  for (const [at, offset] of sorted.entries()) {
    if (inFixed(offset, offset + clusterSize) || sorted[at + 1] === offset) {
      throw new CodedError(
        'IMAGE_UNSAFE',
        `the qcow2 is refused: byte ${offset} holds two of its tables at once`,
      )
    }
  }

  /** Index of the first table at or behind `offset`. */
  function firstFrom(offset: number): number {
    let low = 0
    let high = sorted.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((sorted[middle] ?? 0) < offset) low = middle + 1
      else high = middle
    }
    return low
  }

  return {
    overlaps(start, end) {
      const next = sorted[firstFrom(start - (start % clusterSize))]
      return (next !== undefined && next < end) || inFixed(start, end)
    },
  }
}
