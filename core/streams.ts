/** A stage of a pipeline: any chunking in, any chunking out, the same bytes in order. */
export type Bytes = AsyncIterable<Uint8Array>

/**
 * The first `size` bytes of `body` (fewer where it ends before) and a stream of all of it, the
 * head included. The caller must consume or dispose `rest`, which closes the source.
 */
export async function peek(
  body: Bytes,
  size: number,
): Promise<{ readonly head: Uint8Array; readonly rest: AsyncGenerator<Uint8Array, void> }> {
  const iterator = body[Symbol.asyncIterator]()
  const kept: Uint8Array[] = []
  let length = 0
  while (length < size) {
    const next = await iterator.next()
    if (next.done === true) break
    // A source may reuse its buffer for the next chunk.
    kept.push(Uint8Array.from(next.value))
    length += next.value.length
  }
  async function* continued(): AsyncGenerator<Uint8Array, void> {
    try {
      yield new Uint8Array(0)
      yield* kept
      for (;;) {
        const next = await iterator.next()
        if (next.done === true) return
        yield next.value
      }
    } finally {
      await iterator.return?.()
    }
  }
  const rest = continued()
  // A generator that never started skips its `finally`: start it, so that return() closes the source.
  await rest.next()
  return { head: Buffer.concat(kept).subarray(0, size), rest }
}

/**
 * The same bytes in pieces of exactly `size`, the last one shorter. Each piece is valid only
 * until the next one is asked for: one buffer is used for all.
 */
export async function* inPieces(body: Bytes, size: number): AsyncGenerator<Uint8Array, void> {
  const piece = Buffer.allocUnsafeSlow(size)
  let filled = 0
  for await (const chunk of body) {
    let rest = chunk
    while (rest.length > 0) {
      const part = rest.subarray(0, size - filled)
      piece.set(part, filled)
      filled += part.length
      rest = rest.subarray(part.length)
      if (filled === size) {
        yield piece
        filled = 0
      }
    }
  }
  if (filled > 0) yield piece.subarray(0, filled)
}

/** The same bytes without the first `bytes` of them. */
export async function* skipping(body: Bytes, bytes: number): AsyncGenerator<Uint8Array, void> {
  let left = bytes
  for await (const chunk of body) {
    const part = chunk.subarray(left)
    left -= chunk.length - part.length
    if (part.length > 0) yield part
  }
}

/** Calls `observe` with every chunk on its way through. */
export async function* observed(
  body: Bytes,
  observe: (chunk: Uint8Array) => void,
): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of body) {
    observe(chunk)
    yield chunk
  }
}

/** Keeps the last `size` bytes of everything `push` saw. */
export function createTail(size: number): {
  push(chunk: Uint8Array): void
  bytes(): Uint8Array
} {
  const ring = Buffer.alloc(size)
  let end = 0
  let total = 0
  return {
    push(chunk) {
      total += chunk.length
      for (let part = chunk.subarray(-size); part.length > 0;) {
        const fits = part.subarray(0, size - end)
        ring.set(fits, end)
        end = (end + fits.length) % size
        part = part.subarray(fits.length)
      }
    },
    bytes() {
      if (total < size) return Uint8Array.from(ring.subarray(0, total))
      return Buffer.concat([ring.subarray(end), ring.subarray(0, end)])
    },
  }
}
