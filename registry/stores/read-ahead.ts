import type { ByteRange } from '../../core/registry.ts'
import { bufferBytes, buffers } from '../buffers.ts'

/** Readers of disks ask for many such ranges: those take no more memory than they are. */
const smallBytes = 256 * 1024

/**
 * The bytes of `range` in pieces, one read ahead of the caller; a piece is valid until the next
 * one is asked for. `readInto` fills a buffer from a position or throws. The two buffers are given
 * back in every case.
 */
export async function* readAhead(
  range: ByteRange,
  signal: AbortSignal,
  readInto: (position: number, buffer: Uint8Array) => Promise<void>,
): AsyncGenerator<Uint8Array, void> {
  const size = range.end - range.start
  if (size === 0) return
  if (size <= smallBytes) {
    const piece = Buffer.allocUnsafe(size)
    await readInto(range.start, piece)
    signal.throwIfAborted()
    yield piece
    return
  }
  let ready = buffers.take()
  let ahead = buffers.take()
  let reading: Promise<Uint8Array> | undefined

  async function readPiece(start: number, buffer: Buffer): Promise<Uint8Array> {
    const piece = buffer.subarray(0, Math.min(bufferBytes, range.end - start))
    await readInto(start, piece)
    return piece
  }

  try {
    reading = readPiece(range.start, ready)
    for (let position = range.start; position < range.end;) {
      const piece: Uint8Array = await reading
      signal.throwIfAborted()
      position += piece.length
      reading = position < range.end ? readPiece(position, ahead) : Promise.resolve(piece)
      // Looked at in the next round; the caller may stop before it.
      reading.catch(() => {})
      yield piece
      ;[ready, ahead] = [ahead, ready]
    }
  } finally {
    await Promise.allSettled([reading])
    buffers.giveBack(ready)
    buffers.giveBack(ahead)
  }
}
