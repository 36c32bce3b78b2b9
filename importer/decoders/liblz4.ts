import { CodedError } from '../../core/errors.ts'
import type { DecodeStep, NativeDecoder } from './decoder.ts'
import { createLegacyFrame, type LegacyFrame } from './lz4-legacy.ts'
import { addressOf, loadLibrary } from './native-library.ts'
import { assertPadding } from './padding.ts'

/** `LZ4F_VERSION` */
const version = 100
const frameMagic = 0x184d2204
/** Of those numbers the last digit is free. */
const skippableMagic = 0x184d2a50
const legacyMagic = 0x184c2102
const magicBytes = 4

type Step = Omit<DecodeStep, 'ended'>

/**
 * lz4 frames by the system's liblz4, one after another, then zeros; each with the checksums that it
 * has proven. Legacy frames have none, and no end: what is cut between two of their blocks cannot be
 * told. Throws UNAVAILABLE where the library is missing. @see LZ4 frame format
 */
export function createLz4Decoder(): NativeDecoder {
  const lz4 = (library ??= load())
  const holder = Buffer.alloc(8)
  checkResult(lz4, lz4.create(holder))
  const context = holder.readBigUInt64LE()
  const sizes = Buffer.alloc(16)
  const magic = Buffer.alloc(magicBytes)
  let magicFilled = 0
  let inside: 'frame' | 'legacy' | 'padding' | undefined
  let legacy: LegacyFrame | undefined
  let isOpen = true

  /** Answers what `DecodeStep.begun` says. */
  function begin(): number | undefined {
    magicFilled = 0
    const number = magic.readUInt32LE()
    if (number === legacyMagic) {
      inside = 'legacy'
      legacy ??= createLegacyFrame((packed, block) => {
        const size = lz4.unpackBlock(packed, block)
        if (size < 0) throw invalid('a block of it is damaged')
        return size
      })
    } else if (number === frameMagic || number >>> 4 === skippableMagic >>> 4) {
      decodeFrame(magic, new Uint8Array(0))
    } else {
      inside = 'padding'
      assertPadding(magic, 'lz4')
      return undefined
    }
    return magicBytes
  }

  function decodeFrame(input: Uint8Array, output: Uint8Array): Step {
    sizes.writeBigUInt64LE(BigInt(output.length), 0)
    sizes.writeBigUInt64LE(BigInt(input.length), 8)
    const wanted = lz4.decompress(context, output, sizes, input)
    checkResult(lz4, wanted)
    // What it would like to have next: nothing, where a frame has ended.
    inside = wanted === 0n ? undefined : 'frame'
    const produced = Number(sizes.readBigUInt64LE(0))
    return { consumed: Number(sizes.readBigUInt64LE(8)), produced }
  }

  function decodeLegacy(input: Uint8Array, output: Uint8Array): Step {
    if (!legacy) return { consumed: 0, produced: 0 }
    const { next, ...step } = legacy.decode(input, output)
    if (!next) return step
    magic.set(next)
    return { ...step, begun: begin() }
  }

  function takeMagic(input: Uint8Array): Step {
    const part = input.subarray(0, magicBytes - magicFilled)
    magic.set(part, magicFilled)
    magicFilled += part.length
    const begun = magicFilled === magicBytes ? begin() : undefined
    return { consumed: part.length, produced: 0, begun }
  }

  function step(input: Uint8Array, output: Uint8Array): Step {
    switch (inside) {
      case 'frame':
        return decodeFrame(input, output)
      case 'legacy':
        return decodeLegacy(input, output)
      case 'padding':
        assertPadding(input, 'lz4')
        return { consumed: input.length, produced: 0 }
      case undefined:
        return takeMagic(input)
    }
  }

  return {
    decode(input, output, last) {
      const { consumed, produced, begun } = step(input, output)
      const mayEnd = inside === 'legacy' ? legacy?.isBetween() : inside !== 'frame'
      if (!last || consumed < input.length) return { consumed, produced, ended: false, begun }
      if (mayEnd) {
        // The start of a magic number, unless it is zeros.
        assertPadding(magic.subarray(0, magicFilled), 'lz4')
      } else if (consumed + produced === 0) {
        throw invalid('it ends too early; the file is truncated')
      }
      return { consumed, produced, ended: mayEnd === true, begun }
    },
    [Symbol.dispose]() {
      if (isOpen) lz4.free(context)
      isOpen = false
    },
  }
}

interface Liblz4 {
  create(holder: Buffer): bigint
  decompress(context: bigint, output: Uint8Array, sizes: Buffer, input: Uint8Array): bigint
  free(context: bigint): void
  /** Bytes of `block` that were written; negative where `packed` is damaged. */
  unpackBlock(packed: Uint8Array, block: Uint8Array): number
  /** Undefined where `result` is no error. */
  errorName(result: bigint): string | undefined
}

let library: Liblz4 | undefined

function load(): Liblz4 {
  const lz4 = loadLibrary({ file: 'liblz4.so.1', name: 'lz4', packages: 'liblz4-1' })
  const create = lz4.func('size_t LZ4F_createDecompressionContext(void *holder, uint32_t version)')
  const decompress = lz4.func(
    'size_t LZ4F_decompress(uint64_t context, uint64_t to, uint64_t toSize, uint64_t from, uint64_t fromSize, void *options)',
  )
  const free = lz4.func('size_t LZ4F_freeDecompressionContext(uint64_t context)')
  const unpackBlock = lz4.func(
    'int LZ4_decompress_safe(void *packed, void *block, int packedSize, int blockSize)',
  )
  const isError = lz4.func('uint32_t LZ4F_isError(size_t result)')
  const nameOf = lz4.func('str LZ4F_getErrorName(size_t result)')
  return {
    create: (holder) => BigInt(create(holder, version)),
    decompress(context, output, sizes, input) {
      const at = addressOf(sizes)
      const result: number | bigint = decompress(
        context,
        addressOf(output),
        at,
        addressOf(input),
        at + 8n,
        null,
      )
      return BigInt(result)
    },
    free: (context) => void free(context),
    unpackBlock: (packed, block) => Number(unpackBlock(packed, block, packed.length, block.length)),
    errorName: (result) => (isError(result) === 0 ? undefined : String(nameOf(result))),
  }
}

function checkResult(lz4: Liblz4, result: bigint): void {
  const name = lz4.errorName(result)
  if (name !== undefined) throw invalid(`it is damaged (${name})`)
}

const invalid = (why: string): CodedError =>
  new CodedError('COMPRESSION_INVALID', `cannot decompress lz4: ${why}`)
