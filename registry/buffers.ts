/** Bytes moved at once between sockets and files. */
export const bufferBytes = 512 * 1024

/** Most free buffers kept for reuse. */
const keptBuffers = 16
const free: Buffer[] = []

/** A buffer of `bufferBytes` with any contents; give it back with `returnBuffer`. */
export function takeBuffer(): Buffer {
  return free.pop() ?? Buffer.allocUnsafeSlow(bufferBytes)
}

/** Nobody reads or writes `buffer` any more. */
export function returnBuffer(buffer: Buffer): void {
  if (free.length < keptBuffers) free.push(buffer)
}
