import { setImmediate } from 'node:timers/promises'
import { CodedError } from '../../core/errors.ts'
import type { Bytes } from '../../core/streams.ts'
import { zstdFields, type ZstdField } from '../../core/zstd-frame.ts'
import { assertPadding } from './padding.ts'

const pieceBytes = 256 * 1024
/** Compressed bytes of frames that are decoded together: to begin anew costs time. */
const groupBytes = 1024 * 1024
/** Frames can be of a few bytes; others wait no longer than these few milliseconds take. */
const fieldsAtOnce = 10_000
/** The format's recommended most for decoders. */
const mostWindowBytes = 128 * 1024 * 1024

/** A piece of zstd frames. */
export interface ZstdPiece {
  /** The reader's own, until it calls `release`. */
  readonly bytes: Uint8Array
  readonly release: () => void
  /** Here begins a frame: it and what follows need nothing of what came before. */
  readonly startsGroup: boolean
  /** Bytes of the largest window that is asked for in here; 0 for none. */
  readonly windowBytes: number
}

/**
 * The same bytes without the padding behind them. Throws COMPRESSION_INVALID where they end inside
 * a frame or something else than zeros follows one: Node's decoder stops there without a word.
 * SIZE_EXCEEDED where a frame's window is larger than 128 MiB. @see RFC 8878 §3.1
 */
export async function* zstdPieces(body: Bytes): AsyncGenerator<ZstdPiece, void> {
  const fields = zstdFields()
  const pieces = createPieces()
  const magic = Buffer.alloc(4)
  let field = fields.next(0)
  let taken = 0
  let value = 0
  let walked = 0
  for await (const chunk of body) {
    let at = 0
    let copied = 0
    while (field.done !== true) {
      const { size, name } = field.value
      if (taken < size) {
        if (at === chunk.length) break
        const part = size <= 8 ? 1 : Math.min(size - taken, chunk.length - at)
        if (size <= 8) value += (chunk[at] ?? 0) * 256 ** taken
        taken += part
        at += part
        continue
      }
      if (++walked % fieldsAtOnce === 0) await setImmediate()
      pieces.needWindow(windowOf(field.value, value))
      field = fields.next(value)
      if (name === 'magic') {
        magic.writeUInt32LE(value)
        copied = at
        if (field.done !== true) pieces.put(magic)
      } else if (field.done !== true && field.value.name === 'magic') {
        pieces.put(chunk.subarray(copied, at))
        pieces.endFrame()
        copied = at
      }
      taken = 0
      value = 0
    }
    if (field.done === true) {
      if (at > 0) assertPadding(magic, 'zstd')
      assertPadding(chunk.subarray(at), 'zstd')
    } else if (field.value.name !== 'magic') {
      pieces.put(chunk.subarray(copied))
    }
    yield* pieces.take()
  }
  pieces.flush()
  yield* pieces.take()
  // Up to three zeros behind the end are padding, and the start of no magic number.
  if (field.done === true || (field.value.name === 'magic' && value === 0)) return
  throw new CodedError(
    'COMPRESSION_INVALID',
    'cannot decompress zstd: it ends too early; the file is truncated',
  )
}

/** Bytes of the window that a field asks for; throws SIZE_EXCEEDED. */
function windowOf({ name, size }: ZstdField, value: number): number {
  if (name === 'segment') return allowedWindow(value + (size === 2 ? 256 : 0))
  if (name !== 'window') return 0
  const base = 2 ** (10 + (value >> 3))
  return allowedWindow(base + (base / 8) * (value & 7))
}

function allowedWindow(bytes: number): number {
  if (bytes <= mostWindowBytes) return bytes
  throw new CodedError(
    'SIZE_EXCEEDED',
    `cannot decompress zstd: a frame asks for a window of ${bytes} bytes of memory, more than the allowed ${mostWindowBytes}; compress it again without --long, or with --long=27`,
  )
}

/** Collects bytes in buffers that are used again once they are released. */
function createPieces() {
  const free: Buffer<ArrayBuffer>[] = []
  let ready: ZstdPiece[] = []
  let piece = Buffer.allocUnsafeSlow(pieceBytes)
  let filled = 0
  let inGroup = 0
  let startsGroup = true
  let windowBytes = 0

  function flush(): void {
    if (filled === 0) return
    const full = piece
    const release = (): void => void free.push(full)
    ready.push({ bytes: full.subarray(0, filled), release, startsGroup, windowBytes })
    piece = free.pop() ?? Buffer.allocUnsafeSlow(pieceBytes)
    filled = 0
    startsGroup = false
    windowBytes = 0
  }

  return {
    flush,
    /** The full ones. */
    take(): ZstdPiece[] {
      const taken = ready
      ready = []
      return taken
    },
    put(bytes: Uint8Array): void {
      inGroup += bytes.length
      for (let rest = bytes; rest.length > 0;) {
        const part = rest.subarray(0, pieceBytes - filled)
        piece.set(part, filled)
        filled += part.length
        rest = rest.subarray(part.length)
        if (filled === pieceBytes) flush()
      }
    },
    endFrame(): void {
      if (inGroup < groupBytes) return
      flush()
      inGroup = 0
      startsGroup = true
    },
    needWindow(bytes: number): void {
      windowBytes = Math.max(windowBytes, bytes)
    },
  }
}
