import type { ByteRange } from '../core/registry.ts'
import { CodedError } from '../core/errors.ts'
import { packings, type MappedRun } from './run-queue.ts'

/** Runs that are read from one stretch of the file: both rise. */
export interface Stretch {
  readonly range: ByteRange
  readonly runs: Iterable<MappedRun>
  /** Runs may share a sector with the one before. */
  readonly hasPacked: boolean
}

/** All runs of an image, in little memory. */
export interface RunTable {
  readonly size: number
  /** Bytes of the file that they are. */
  readonly dataBytes: number
  add(run: MappedRun): void
  /** What else of the file is in use. */
  addTable(range: ByteRange): void
  /** Throws IMAGE_UNSAFE where two things claim the same bytes of the file. */
  requireApart(): void
  /** How many there are where gaps of up to `mostGapBytes` are read over. */
  stretches(mostGapBytes: number): number
  /** Those that hold `position` of the disk or what is behind it, in the order of the disk. */
  from(position: number, mostGapBytes: number): Iterable<Stretch>
  bytesFrom(position: number): number
}

/** Packed neighbours may share one. */
export const sectorBytes = 512

/** Rows of numbers that grow. */
interface Columns {
  start: Float64Array
  end: Float64Array
  /** -1 for a table. */
  guest: Float64Array
  packing: Uint8Array
}

export function createRunTable(format: string): RunTable {
  let rows: Columns = columnsOf(1024)
  let count = 0
  let runCount = 0
  let dataBytes = 0
  let inGuestOrder: Uint32Array | undefined

  function push(start: number, end: number, guest: number, packing: number): void {
    if (count === rows.start.length) {
      const more = columnsOf(count * 2)
      more.start.set(rows.start)
      more.end.set(rows.end)
      more.guest.set(rows.guest)
      more.packing.set(rows.packing)
      rows = more
    }
    rows.start[count] = start
    rows.end[count] = end
    rows.guest[count] = guest
    rows.packing[count] = packing
    count++
  }

  const sortedBy = (column: Float64Array): Uint32Array =>
    Uint32Array.from({ length: count }, (_, row) => row).sort(
      (a, b) => at(column, a) - at(column, b),
    )

  /** Rows of runs, by their place on the disk. */
  function guestOrder(): Uint32Array {
    inGuestOrder ??= sortedBy(rows.guest).subarray(count - runCount)
    return inGuestOrder
  }

  const runAt = (row: number): MappedRun => ({
    start: at(rows.start, row),
    size: at(rows.end, row) - at(rows.start, row),
    guest: at(rows.guest, row),
    packing: packings[rows.packing[row] ?? 0] ?? 'plain',
  })

  /** The first in guest order that is needed: a packed one may hold more than its own size. */
  function firstFrom(position: number): number {
    const order = guestOrder()
    let low = 0
    let high = order.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (at(rows.guest, order[middle] ?? 0) < position) low = middle + 1
      else high = middle
    }
    return Math.max(0, low - 1)
  }

  const sharedBytes = (row: number, before: number): number =>
    rows.packing[row] !== 0 || rows.packing[before] !== 0 ? sectorBytes : 0

  function follows(row: number, before: number, mostGapBytes: number): boolean {
    const gap = at(rows.start, row) - at(rows.end, before)
    const rises = at(rows.start, row) > at(rows.start, before)
    return rises && gap >= -sharedBytes(row, before) && gap <= mostGapBytes
  }

  /** Ends, exclusive, in guest order of the stretches from `first` on. */
  function* stretchEnds(first: number, mostGapBytes: number): Generator<number, void> {
    const order = guestOrder()
    for (let index = first + 1; index < order.length; index++) {
      if (!follows(order[index] ?? 0, order[index - 1] ?? 0, mostGapBytes)) yield index
    }
    if (first < order.length) yield order.length
  }

  return {
    get size() {
      return runCount
    },
    get dataBytes() {
      return dataBytes
    },
    add({ start, size, guest, packing }) {
      push(start, start + size, guest, packings.indexOf(packing))
      runCount++
      dataBytes += size
      inGuestOrder = undefined
    },
    addTable: ({ start, end }) => push(start, end, -1, 0),
    requireApart() {
      let before = -1
      for (const row of sortedBy(rows.start)) {
        if (before >= 0) {
          const shared = sharedBytes(row, before)
          if (at(rows.start, row) < at(rows.end, before) - shared) throw overlap(row)
        }
        if (before < 0 || at(rows.end, row) > at(rows.end, before)) before = row
      }
    },
    stretches: (mostGapBytes) => [...stretchEnds(0, mostGapBytes)].length,
    *from(position, mostGapBytes) {
      const order = guestOrder()
      let index = firstFrom(position)
      for (const end of stretchEnds(index, mostGapBytes)) {
        const stretch = order.subarray(index, end)
        const [first = 0] = stretch
        const range = { start: at(rows.start, first), end: at(rows.end, stretch.at(-1) ?? 0) }
        const hasPacked = stretch.some((row) => rows.packing[row] !== 0)
        yield { range, runs: runsOf(stretch), hasPacked }
        index = end
      }
    },
    bytesFrom(position) {
      let bytes = 0
      for (const row of guestOrder().subarray(firstFrom(position))) {
        bytes += at(rows.end, row) - at(rows.start, row)
      }
      return bytes
    },
  }

  function* runsOf(stretch: Uint32Array): Generator<MappedRun, void> {
    for (const row of stretch) yield runAt(row)
  }

  function overlap(row: number): CodedError {
    const guest = at(rows.guest, row)
    const what = guest < 0 ? 'a table' : `the data of guest byte ${guest}`
    return new CodedError(
      'IMAGE_UNSAFE',
      `the ${format} is refused: ${what} shares bytes with other data`,
    )
  }
}

const columnsOf = (size: number): Columns => ({
  start: new Float64Array(size),
  end: new Float64Array(size),
  guest: new Float64Array(size),
  packing: new Uint8Array(size),
})

const at = (column: Float64Array, row: number): number => column[row] ?? 0
