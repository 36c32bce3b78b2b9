/** A place in compressed data where decoding can begin anew: nothing before it is needed. */
export interface Boundary {
  /** Compressed bytes before it; at least one follows. */
  readonly compressed: number
  /** What those bytes hold, which was proven to be right. */
  readonly decoded: number
  /** Where it is a block of an xz stream and not a stream. */
  readonly xz?: XzPlace | undefined
}

export interface XzPlace {
  /** The number of the stream's check. */
  readonly check: number
  /** Blocks of the stream that lie before. */
  readonly blocks: number
  /** What those hold. */
  readonly unpacked: number
}

export type OnBoundary = (boundary: Boundary) => void

/** Compressed bytes between two boundaries that are told: others gain nothing. */
export const boundaryEveryBytes = 1024 * 1024
