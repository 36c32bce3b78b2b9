import { crc32, createInflateRaw } from 'node:zlib'
import { CodedError } from '../../core/errors.ts'
import { inPieces, type Bytes } from '../../core/streams.ts'
import { boundaryEveryBytes, type OnBoundary } from './boundary.ts'
import { createByteCursor, type ByteCursor } from './byte-cursor.ts'
import { assertPadding } from './padding.ts'
import { damaged, decodeGzip, giveBack, inputBytes, outputBytes } from './zlib-stage.ts'

const fixedBytes = 10
const trailerBytes = 8
const deflate = 8
/** Members that hold less than a mebibyte. */
const mostSmall = 100
const flag = { headerCheck: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const

/**
 * What `decodeGzip` gives, and tells where a member begins, each time a mebibyte later. A decoder for
 * each member takes time: where many are small, as in bgzip's files, what follows is left to
 * `decodeGzip` and no more is told. Throws COMPRESSION_INVALID. @see RFC 1952
 */
export async function* decodeGzipMembers(
  body: Bytes,
  onBoundary: OnBoundary,
): AsyncGenerator<Uint8Array, void> {
  using cursor = createByteCursor(inPieces(body, inputBytes))
  let decoded = 0
  /** Compressed bytes before the last boundary that was told. */
  let told = 0
  let small = 0
  for (;;) {
    await passHeader(cursor)
    let sum = 0
    let size = 0
    for await (const chunk of inflated(cursor)) {
      sum = crc32(chunk, sum)
      size += chunk.length
      yield chunk
      giveBack(chunk)
    }
    const trailer = await required(cursor, trailerBytes)
    if (trailer.readUInt32LE(0) !== sum) throw invalid('its checksum is another one')
    if (trailer.readUInt32LE(4) !== size % 2 ** 32) throw invalid('its length is another one')
    decoded += size
    const next = await cursor.peek()
    if (!next) return
    if (next[0] === 0) {
      for await (const padding of cursor.rest()) assertPadding(padding, 'gzip')
      return
    }
    if (size < boundaryEveryBytes && ++small > mostSmall) return yield* decodeGzip(cursor.rest())
    const compressed = cursor.position
    if (compressed - told < boundaryEveryBytes) continue
    told = compressed
    onBoundary({ compressed, decoded })
  }
}

async function passHeader(cursor: ByteCursor): Promise<void> {
  const fixed = await required(cursor, fixedBytes)
  const [first, second, method, flags = 0] = fixed
  if (first !== 0x1f || second !== 0x8b) throw invalid('other bytes follow its end')
  if (method !== deflate || (flags & flag.reserved) !== 0) throw invalid('its header is damaged')
  let sum = crc32(fixed)
  if (flags & flag.extra) {
    const length = await required(cursor, 2)
    const extra = await required(cursor, length.readUInt16LE())
    sum = crc32(extra, crc32(length, sum))
  }
  if (flags & flag.name) sum = await passText(cursor, sum)
  if (flags & flag.comment) sum = await passText(cursor, sum)
  if (flags & flag.headerCheck) {
    const check = await required(cursor, 2)
    if (check.readUInt16LE() !== sum % 2 ** 16) throw invalid('its header is damaged')
  }
}

/** Up to a zero; answers the checksum with it. */
async function passText(cursor: ByteCursor, before: number): Promise<number> {
  for (let sum = before; ;) {
    const bytes = await cursor.peek()
    if (!bytes) throw truncated()
    const end = bytes.indexOf(0)
    const part = end === -1 ? bytes : bytes.subarray(0, end + 1)
    sum = crc32(part, sum)
    cursor.take(part.length)
    if (end !== -1) return sum
  }
}

/** One deflate stream; the cursor is behind it then. */
async function* inflated(cursor: ByteCursor): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const decoder = createInflateRaw({ chunkSize: outputBytes })
  let sourceError: unknown
  let isOver = false
  let proceed = (): void => {}
  const over = (): void => {
    isOver = true
    proceed()
  }
  decoder.once('end', over)
  decoder.once('close', over)

  /** The decoder ends by itself before the first byte that it does not use. */
  async function feed(): Promise<void> {
    for (;;) {
      const piece = await cursor.peek()
      if (!piece) break
      const before = decoder.bytesWritten
      // Its buffer is used again for the next one, so it must be consumed before that.
      await new Promise<void>((resolve) => {
        proceed = resolve
        decoder.write(piece, () => resolve())
        if (isOver) resolve()
      })
      const used = decoder.bytesWritten - before
      cursor.take(used)
      if (used < piece.length) return
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
    }
    await feeding
  } catch (error) {
    throw sourceError ?? damaged('gzip', error)
  } finally {
    decoder.destroy()
  }
}

async function required(cursor: ByteCursor, size: number): Promise<Buffer> {
  const bytes = await cursor.read(size)
  if (bytes.length < size) throw truncated()
  return bytes
}

const truncated = (): CodedError => invalid('it ends too early; the file is truncated')

const invalid = (why: string): CodedError =>
  new CodedError('COMPRESSION_INVALID', `cannot decompress gzip: ${why}`)
