import type { Bytes } from '../../core/streams.ts'

/** Reads a stream part by part. Disposing it closes the stream, as soon as that waits for nothing. */
export interface ByteCursor extends Disposable {
  /** Bytes before it. */
  readonly position: number
  /** What comes next, at least one byte, until `take` or the next call; `undefined` at the end. */
  peek(): Promise<Uint8Array | undefined>
  /** Goes over so many of the bytes that `peek` gave. */
  take(size: number): void
  /** The next `size` bytes; fewer at the end. */
  read(size: number): Promise<Buffer>
  /** All that is left. */
  rest(): AsyncGenerator<Uint8Array, void>
}

export function createByteCursor(body: Bytes): ByteCursor {
  const iterator = body[Symbol.asyncIterator]()
  let chunk: Uint8Array = new Uint8Array(0)
  let position = 0

  async function peek(): Promise<Uint8Array | undefined> {
    while (chunk.length === 0) {
      const next = await iterator.next()
      if (next.done === true) return undefined
      chunk = next.value
    }
    return chunk
  }

  function take(size: number): void {
    chunk = chunk.subarray(size)
    position += size
  }

  return {
    get position() {
      return position
    },
    peek,
    take,
    async read(size) {
      const bytes = Buffer.alloc(size)
      let filled = 0
      while (filled < size) {
        const part = (await peek())?.subarray(0, size - filled)
        if (!part) break
        bytes.set(part, filled)
        filled += part.length
        take(part.length)
      }
      return bytes.subarray(0, filled)
    },
    async *rest() {
      for (;;) {
        const part = await peek()
        if (!part) return
        take(part.length)
        yield part
      }
    },
    [Symbol.dispose]() {
      // One that waits for a slow source ends when that is closed, which the reader does later.
      iterator.return?.().catch(() => {})
    },
  }
}
