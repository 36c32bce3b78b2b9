import { createSpill } from './spill.ts'

/** Bytes of a file that passed before it was known whether they are of use. */
export interface Parking extends AsyncDisposable {
  /** Bytes kept so far. */
  readonly size: number
  /** Keeps a copy; calls come with rising `start` and do not overlap. */
  keep(start: number, bytes: Uint8Array): Promise<void>
  /** Copies what is kept of `[start, start + into.length)` into its place; how many bytes that was. */
  copy(start: number, into: Uint8Array): Promise<number>
}

/** Memory first, then an unnamed file in `folder`. */
export function createParking(options: {
  readonly folder: string
  readonly memoryBytes: number
}): Parking {
  const spill = createSpill(options)
  /** Places in the file, and in the spill; both rise. */
  const pieces: { readonly start: number; end: number; readonly at: number }[] = []

  /** The first piece that ends behind `start`. */
  function firstFrom(start: number): number {
    let low = 0
    let high = pieces.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((pieces[middle]?.end ?? 0) <= start) low = middle + 1
      else high = middle
    }
    return low
  }

  return {
    get size() {
      return spill.size
    },
    async keep(start, bytes) {
      const last = pieces.at(-1)
      if (last?.end === start) last.end += bytes.length
      else pieces.push({ start, end: start + bytes.length, at: spill.size })
      await spill.append(bytes)
    },
    async copy(start, into) {
      const end = start + into.length
      let copied = 0
      for (let index = firstFrom(start); ; index++) {
        const piece = pieces[index]
        if (!piece || piece.start >= end) return copied
        const from = Math.max(start, piece.start)
        const to = Math.min(end, piece.end)
        await spill.readAt(piece.at + from - piece.start, into.subarray(from - start, to - start))
        copied += to - from
      }
    },
    [Symbol.asyncDispose]: () => spill[Symbol.asyncDispose](),
  }
}
