const frameMagic = 0xfd2fb528
const skippableMagic = 0x184d2a50
const checksumFlag = 4
const runLengthBlock = 1

/** One field of a frame. */
export interface ZstdField {
  /** Bytes. */
  readonly size: number
  /** `window`: its log and fraction; `segment`: its bytes, of 2-byte fields 256 fewer. */
  readonly name: 'magic' | 'window' | 'segment' | 'other'
}

/**
 * Asks for one field of zstd frames after the other and is told the value of those up to 8 bytes;
 * ends at what is no frame. @see RFC 8878 §3.1
 */
export function* zstdFields(): Generator<ZstdField, void, number> {
  const field = (size: number): ZstdField => ({ size, name: 'other' })
  for (;;) {
    const magic = yield { size: 4, name: 'magic' }
    if (magic >= skippableMagic && magic < skippableMagic + 16) {
      yield field(yield field(4))
      continue
    }
    // The decoder refuses it.
    if (magic !== frameMagic) return
    const descriptor = yield field(1)
    const isSingleSegment = (descriptor & 0x20) !== 0
    if (!isSingleSegment) yield { size: 1, name: 'window' }
    yield field([0, 1, 2, 4][descriptor & 3] ?? 0)
    const contentSize = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
    yield { size: contentSize, name: isSingleSegment ? 'segment' : 'other' }
    for (let last = 0; last === 0;) {
      const block = yield field(3)
      last = block & 1
      yield field(((block >> 1) & 3) === runLengthBlock ? 1 : block >> 3)
    }
    if (descriptor & checksumFlag) yield field(4)
  }
}

/** Bytes of the frame at the start of `bytes`; throws where there is none or it is cut off. */
export function zstdFrameBytes(bytes: Uint8Array): number {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const fields = zstdFields()
  let at = 0
  for (let field = fields.next(0); field.done !== true;) {
    const { size, name } = field.value
    if (name === 'magic' && at > 0) return at
    if (at + size > view.length) throw new Error('a zstd frame is cut off')
    const value = size > 0 && size <= 4 ? view.readUIntLE(at, size) : 0
    at += size
    field = fields.next(value)
  }
  throw new Error('no zstd frame')
}
