/** Bytes moved at once between sockets and files. */
export const bufferBytes = 256 * 1024

/** Buffers of `bufferBytes` with any contents, used over and over. */
interface Buffers {
  take(): Buffer
  /** Nobody reads or writes `buffer` any more. */
  giveBack(buffer: Buffer): void
}

/** Free buffers kept beside as many as are in use: making new ones all the time is dear. */
const keptBuffers = 16

function createBuffers(allocate: () => Buffer): Buffers {
  const free: Buffer[] = []
  let used = 0
  return {
    take() {
      used++
      return free.pop() ?? allocate()
    },
    giveBack(buffer) {
      used--
      free.push(buffer)
      while (free.length > used + keptBuffers) free.pop()
    },
  }
}

export const buffers = createBuffers(() => Buffer.allocUnsafeSlow(bufferBytes))

/** Those that other threads can read; not for sockets. */
export const sharedBuffers = createBuffers(() => Buffer.from(new SharedArrayBuffer(bufferBytes)))
