/** What a block holds at most. */
const blockBytes = 8 * 1024 * 1024
/** `LZ4_compressBound` of that: no packed block is larger, and every magic number is. */
const mostPackedBytes = blockBytes + Math.floor(blockBytes / 255) + 16
const sizeBytes = 4

/** What one call of `decode` did. */
export interface LegacyStep {
  readonly consumed: number
  readonly produced: number
  /** The frame is over: what stood where the size of a block could stand, 4 bytes. */
  readonly next: Uint8Array | undefined
}

/** The blocks of one legacy frame, which has no end of its own and no checksums. */
export interface LegacyFrame {
  /** Goes on as long as there is input or output to give; throws what `unpackBlock` throws. */
  decode(input: Uint8Array, output: Uint8Array): LegacyStep
  /** The input may end here: no block is begun, and none waits to be given out. */
  isBetween(): boolean
}

/**
 * Reads blocks, each after its size, and unpacks them by `unpackBlock`, which answers how many
 * bytes it wrote into `block`. @see LZ4 frame format, Legacy frame
 */
export function createLegacyFrame(
  unpackBlock: (packed: Uint8Array, block: Uint8Array) => number,
): LegacyFrame {
  const size = Buffer.alloc(sizeBytes)
  const packed = new Uint8Array(mostPackedBytes)
  const block = new Uint8Array(blockBytes)
  let sizeFilled = 0
  let packedFilled = 0
  let unpacked = block.subarray(0, 0)

  function takeSize(input: Uint8Array): LegacyStep {
    const part = input.subarray(0, sizeBytes - sizeFilled)
    size.set(part, sizeFilled)
    sizeFilled += part.length
    const packedBytes = size.readUInt32LE()
    const isOver = sizeFilled === sizeBytes && (packedBytes === 0 || packedBytes > packed.length)
    if (isOver) sizeFilled = 0
    return { consumed: part.length, produced: 0, next: isOver ? Uint8Array.from(size) : undefined }
  }

  function takePacked(input: Uint8Array): LegacyStep {
    const packedBytes = size.readUInt32LE()
    const part = input.subarray(0, packedBytes - packedFilled)
    packed.set(part, packedFilled)
    packedFilled += part.length
    if (packedFilled === packedBytes) {
      unpacked = block.subarray(0, unpackBlock(packed.subarray(0, packedBytes), block))
      packedFilled = 0
      sizeFilled = 0
    }
    return { consumed: part.length, produced: 0, next: undefined }
  }

  return {
    decode(input, output) {
      if (unpacked.length === 0) {
        return sizeFilled < sizeBytes ? takeSize(input) : takePacked(input)
      }
      const part = unpacked.subarray(0, output.length)
      output.set(part)
      unpacked = unpacked.subarray(part.length)
      return { consumed: 0, produced: part.length, next: undefined }
    },
    isBetween: () => sizeFilled === 0 && unpacked.length === 0,
  }
}
