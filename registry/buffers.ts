/** Bytes moved at once between sockets and files. */
export const bufferBytes = 512 * 1024

/** Buffers of `bufferBytes` with any contents, used over and over. */
interface Buffers {
  take(): Buffer
  /** Nobody reads or writes `buffer` any more. */
  giveBack(buffer: Buffer): void
}

/** Most free buffers kept for reuse. */
const keptBuffers = 16

function createBuffers(allocate: () => Buffer): Buffers {
  const free: Buffer[] = []
  return {
    take: () => free.pop() ?? allocate(),
    giveBack(buffer) {
      if (free.length < keptBuffers) free.push(buffer)
    },
  }
}

export const buffers = createBuffers(() => Buffer.allocUnsafeSlow(bufferBytes))

/** Those that other threads can read; not for sockets. */
export const sharedBuffers = createBuffers(() => Buffer.from(new SharedArrayBuffer(bufferBytes)))
