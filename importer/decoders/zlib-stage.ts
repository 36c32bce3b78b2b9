import type { ZstdDecompress, Gunzip } from 'node:zlib'
import { CodedError } from '../../core/errors.ts'
import { inPieces, type Bytes } from '../../core/streams.ts'

const inputBytes = 256 * 1024

export interface ZlibStageOptions {
  /** For messages: `gzip`, `zstd`. */
  readonly name: string
  /** gzip files may be padded with zeros; anything else after the end is an error. */
  readonly zeroPadding: boolean
}

/**
 * Decodes with a decoder of node:zlib and proves that it used the whole input: Node's gzip and
 * zstd decoders stop without a word before trailing bytes. Throws COMPRESSION_INVALID.
 */
export async function* decodeWith(
  decoder: Gunzip | ZstdDecompress,
  input: Bytes,
  options: ZlibStageOptions,
): AsyncGenerator<Uint8Array, void> {
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
        assertPadding(piece, options)
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
      assertPadding(piece.subarray(piece.length - unused), options)
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
      // Waiting for the garbage collector would hold some 80 MB of used output. Small chunks that
      // waited together come in memory that Node shares among buffers.
      const { byteLength } = bytes.buffer
      const isOwn = byteLength > 2 * Buffer.poolSize
      if (isOwn && bytes.byteOffset + bytes.length === byteLength) bytes.buffer.transfer(0)
    }
    await feeding
    if (sourceError !== undefined) throw sourceError
  } catch (error) {
    if (sourceError !== undefined) throw sourceError
    throw new CodedError(
      'COMPRESSION_INVALID',
      `cannot decompress ${options.name}: ${why(error)}`,
      {
        cause: error,
      },
    )
  } finally {
    decoder.destroy()
  }
}

function assertPadding(bytes: Uint8Array, { name, zeroPadding }: ZlibStageOptions): void {
  if (bytes.length === 0 || (zeroPadding && bytes.every((byte) => byte === 0))) return
  throw new CodedError(
    'COMPRESSION_INVALID',
    `cannot decompress ${name}: other bytes follow its end; the file is damaged or was joined with another`,
  )
}

function why(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'Z_BUF_ERROR' || code === 'ERR_STREAM_PREMATURE_CLOSE') {
    return 'it ends too early; the file is truncated'
  }
  return `it is damaged (${error instanceof Error ? error.message : String(error)})`
}
