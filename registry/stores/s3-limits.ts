/** Sizes of one upload, and of all uploads of a process together. */
export interface S3Limits {
  /** S3 takes no smaller part but the last. */
  readonly minPartBytes: number
  readonly partBytes: number
  /** For blobs that are known to fit into one object only with larger parts. */
  readonly mostPartBytes: number
  /** Parts of one object; what is more goes to a further object. */
  readonly mostParts: number
  /** Most bytes taken that are not recorded; with what sockets hold, less than 64 MiB. */
  readonly windowBytes: number
  /** Memory of all uploads, in pieces of one size. */
  readonly budgetBytes: number
  readonly pieceBytes: number
}

const mebi = 1024 * 1024

/** Four parts are in the window: one fills while three are on their way. */
export const s3Limits: S3Limits = {
  minPartBytes: 5 * mebi,
  partBytes: 12 * mebi,
  mostPartBytes: 24 * mebi,
  mostParts: 9_990,
  windowBytes: 48 * mebi,
  budgetBytes: 72 * mebi,
  pieceBytes: mebi / 4,
}

/** Parts cut short leave room for a tenth more of them. */
const fullParts = 0.9

/**
 * The usual size, or what makes one object of `expectedBytes`; what takes several objects anyway
 * keeps the usual size, with which more parts are on their way at once.
 */
export function choosePartBytes(expectedBytes: number, limits: S3Limits): number {
  const { partBytes, mostPartBytes, mostParts, pieceBytes } = limits
  const needed = Math.ceil(expectedBytes / (mostParts * fullParts) / pieceBytes) * pieceBytes
  return needed > mostPartBytes ? partBytes : Math.max(partBytes, needed)
}
