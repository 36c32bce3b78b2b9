const magic = 0xfd_2f_b5_28
const contentSizeBytes = [0, 2, 4, 8] as const
const dictionaryBytes = [0, 1, 2, 4] as const
const blockType = { raw: 0, runLength: 1, compressed: 2 } as const

/**
 * Bytes that the zstd frame at the start of `bytes` takes; throws where there is none or it is cut
 * off. @see RFC 8878 §3.1.1
 */
export function zstdFrameBytes(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (bytes.length < 6 || view.getUint32(0, true) !== magic) throw new Error('no zstd frame')
  const descriptor = view.getUint8(4)
  const isSingleSegment = (descriptor & 0x20) !== 0
  const sizeFlag = descriptor >>> 6
  const contentSize = sizeFlag === 0 && isSingleSegment ? 1 : (contentSizeBytes[sizeFlag] ?? 0)
  const dictionary = dictionaryBytes[descriptor & 3] ?? 0
  let at = 5 + (isSingleSegment ? 0 : 1) + dictionary + contentSize
  for (;;) {
    if (at + 3 > bytes.length) throw new Error('a zstd frame is cut off')
    const header = view.getUint8(at) | (view.getUint8(at + 1) << 8) | (view.getUint8(at + 2) << 16)
    const type = (header >>> 1) & 3
    const size = header >>> 3
    if (type > blockType.compressed) throw new Error('a zstd block has an unknown type')
    at += 3 + (type === blockType.runLength ? 1 : size)
    if ((header & 1) === 1) break
  }
  at += (descriptor & 4) === 0 ? 0 : 4
  if (at > bytes.length) throw new Error('a zstd frame is cut off')
  return at
}
