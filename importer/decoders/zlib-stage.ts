import { createGunzip } from 'node:zlib'
import { CodedError } from '../../core/errors.ts'
import { inPieces, type Bytes } from '../../core/streams.ts'
import { assertPadding } from './padding.ts'

/** What they are given at once. */
export const inputBytes = 256 * 1024

/** What the decoders of node:zlib give at once. */
export const outputBytes = 1024 * 1024

/**
 * Decodes gzip and proves that it used the whole input: Node's decoder stops without a word before
 * trailing bytes. Only zeros may follow its end. Throws COMPRESSION_INVALID.
 */
export async function* decodeGzip(input: Bytes): AsyncGenerator<Uint8Array, void> {
  const decoder = createGunzip({ chunkSize: outputBytes })
  let sourceError: unknown
  let isOver = false
  let proceed = (): void => {}
  const over = (): void => {
    isOver = true
    proceed()
  }
  decoder.once('end', over)
  decoder.once('close', over)

  /** Feeds until the input or the decoder ends; then what is left must be padding. */
  async function feed(): Promise<void> {
    let fed = 0
    for await (const piece of inPieces(input, inputBytes)) {
      if (fed > decoder.bytesWritten) {
        assertPadding(piece, 'gzip')
        continue
      }
      fed += piece.length
      // The piece is used again for the next one, so it must be consumed before that.
      await new Promise<void>((resolve) => {
        proceed = resolve
        decoder.write(piece, () => resolve())
        if (isOver) resolve()
      })
      const unused = fed - decoder.bytesWritten
      assertPadding(piece.subarray(piece.length - unused), 'gzip')
    }
    decoder.end()
  }

  const feeding = feed().catch((error: unknown) => {
    sourceError = error
    decoder.destroy(new Error('the input failed', { cause: error }))
  })
  try {
    for await (const chunk of decoder) {
      const bytes: Uint8Array<ArrayBuffer> = chunk
      yield bytes
      giveBack(bytes)
    }
    await feeding
    if (sourceError !== undefined) throw sourceError
  } catch (error) {
    if (sourceError !== undefined) throw sourceError
    throw damaged('gzip', error)
  } finally {
    decoder.destroy()
  }
}

/**
 * Frees the memory of a chunk that was read. Waiting for the garbage collector would hold some
 * 80 MB of used output; small chunks are parts of memory that Node shares among buffers.
 */
export function giveBack(chunk: Uint8Array<ArrayBuffer>): void {
  const { byteLength } = chunk.buffer
  const isOwn = byteLength > 2 * Buffer.poolSize
  if (isOwn && chunk.byteOffset + chunk.length === byteLength) chunk.buffer.transfer(0)
}

/** The failure of a decoder of node:zlib, said in our words. */
export function damaged(name: string, error: unknown): CodedError {
  return new CodedError('COMPRESSION_INVALID', `cannot decompress ${name}: ${why(error)}`, {
    cause: error,
  })
}

function why(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'Z_BUF_ERROR' || code === 'ERR_STREAM_PREMATURE_CLOSE') {
    return 'it ends too early; the file is truncated'
  }
  return `it is damaged (${error instanceof Error ? error.message : String(error)})`
}
