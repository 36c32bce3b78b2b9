import { CodedError } from '../../core/errors.ts'
import type { ByteRange } from '../../core/registry.ts'
import type { MappedRun } from '../run-queue.ts'

/** A disk in blocks of one size, each somewhere in the file or nowhere. */
export interface BlockMap {
  readonly format: string
  /** Blocks of the disk. */
  readonly count: number
  readonly blockBytes: number
  readonly virtualSize: number
  /** Where the file keeps its tables. */
  readonly tables: readonly ByteRange[]
  /** First byte of the block in the file; `undefined` where it is all zero. */
  startOf(block: number): number | undefined
}

const runBytes = 1024 * 1024

/**
 * The runs of a block map by their place in the file. Throws IMAGE_UNSAFE where a block
 * shares bytes of it with a table, or with another one: a small file would then hold an endless disk.
 */
export function* mappedRuns(map: BlockMap): Generator<MappedRun, void> {
  const { format, count, blockBytes, virtualSize } = map
  const starts = new Float64Array(count).fill(Infinity)
  let mapped = 0
  for (let block = 0; block < count; block++) {
    const start = map.startOf(block)
    if (start === undefined) continue
    starts[block] = start
    mapped++
  }
  const inOrder = Uint32Array.from(starts.keys()).sort((a, b) => at(starts, a) - at(starts, b))
  let end = 0
  for (const block of inOrder.subarray(0, mapped)) {
    const start = at(starts, block)
    if (start < end) {
      throw new CodedError(
        'IMAGE_UNSAFE',
        `the ${format} is refused: block ${block} shares bytes of the file with another one`,
      )
    }
    const guest = block * blockBytes
    end = start + Math.min(blockBytes, virtualSize - guest)
    const table = map.tables.find((range) => start < range.end && range.start < end)
    if (table) {
      throw new CodedError(
        'IMAGE_UNSAFE',
        `the ${format} is refused: block ${block} lies where the file has its tables`,
      )
    }
    for (let done = 0; start + done < end; done += runBytes) {
      const size = Math.min(runBytes, end - start - done)
      yield { start: start + done, size, guest: guest + done, packing: 'plain' }
    }
  }
}

const at = (numbers: Float64Array, index: number): number => numbers[index] ?? Infinity
