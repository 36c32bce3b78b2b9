/** A run of a file that holds guest data, whole: plain bytes, or one compressed piece. */
export interface MappedRun {
  /** First byte in the file. */
  readonly start: number
  /** Bytes in the file; at most `mostRunBytes`. */
  readonly size: number
  /** First byte of the disk that they are. */
  readonly guest: number
  /** How the bytes are packed; what comes out has the size that the format gives all its pieces. */
  readonly packing: Packing
}

export const packings = ['plain', 'deflate', 'zlib', 'zstd'] as const
export type Packing = (typeof packings)[number]

/** Longer stretches are mapped as several runs. */
export const mostRunBytes = 2 * 1024 * 1024 + 64 * 1024

/** Runs by their place in the file: the first one comes out first, whatever order they came in. */
export interface RunQueue {
  readonly size: number
  add(run: MappedRun): void
  /** The first one; `undefined` where there is none. */
  first(): MappedRun | undefined
  removeFirst(): void
}

const columns = 4

/** A binary heap of numbers: an image may map millions of runs before the first of them. */
export function createRunQueue(): RunQueue {
  let table = new Float64Array(columns * 1024)
  let size = 0

  const startOf = (at: number): number => table[at * columns] ?? Infinity

  function swap(a: number, b: number): void {
    for (let column = 0; column < columns; column++) {
      const kept = table[a * columns + column] ?? 0
      table[a * columns + column] = table[b * columns + column] ?? 0
      table[b * columns + column] = kept
    }
  }

  function rise(from: number): void {
    for (let at = from; at > 0;) {
      const parent = (at - 1) >>> 1
      if (startOf(parent) <= startOf(at)) return
      swap(at, parent)
      at = parent
    }
  }

  function sink(): void {
    for (let at = 0; ;) {
      const left = 2 * at + 1
      if (left >= size) return
      const least = left + 1 < size && startOf(left + 1) < startOf(left) ? left + 1 : left
      if (startOf(at) <= startOf(least)) return
      swap(at, least)
      at = least
    }
  }

  return {
    get size() {
      return size
    },
    add({ start, size: bytes, guest, packing }) {
      if ((size + 1) * columns > table.length) {
        const larger = new Float64Array(table.length * 2)
        larger.set(table)
        table = larger
      }
      table.set([start, bytes, guest, packings.indexOf(packing)], size * columns)
      rise(size++)
    },
    first() {
      if (size === 0) return undefined
      const [start = 0, bytes = 0, guest = 0, packing = 0] = table.subarray(0, columns)
      return { start, size: bytes, guest, packing: packings[packing] ?? 'plain' }
    },
    removeFirst() {
      size--
      swap(0, size)
      sink()
    },
  }
}
