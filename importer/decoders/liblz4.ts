import { CodedError } from '../../core/errors.ts'
import type { NativeDecoder } from './decoder.ts'
import { addressOf, loadLibrary } from './native-library.ts'

/** `LZ4F_VERSION` */
const version = 100

/**
 * lz4 frames by the system's liblz4, one after another, each with the checksums that it has proven.
 * Throws UNAVAILABLE where it is missing. @see LZ4 frame format
 */
export function createLz4Decoder(): NativeDecoder {
  const lz4 = (library ??= load())
  const holder = Buffer.alloc(8)
  checkResult(lz4, lz4.create(holder))
  const context = holder.readBigUInt64LE()
  const sizes = Buffer.alloc(16)
  let isInFrame = false
  let isOpen = true

  return {
    decode(input, output, last) {
      if (!isInFrame && input.length === 0) return { consumed: 0, produced: 0, ended: last }
      sizes.writeBigUInt64LE(BigInt(output.length), 0)
      sizes.writeBigUInt64LE(BigInt(input.length), 8)
      const wanted = lz4.decompress(context, output, sizes, input)
      checkResult(lz4, wanted)
      const produced = Number(sizes.readBigUInt64LE(0))
      const consumed = Number(sizes.readBigUInt64LE(8))
      // What it would like to have next: nothing, where a frame has ended.
      isInFrame = wanted !== 0n
      const isUsed = consumed === input.length
      if (last && isInFrame && isUsed && produced < output.length) {
        throw invalid('it ends too early; the file is truncated')
      }
      return { consumed, produced, ended: last && !isInFrame && isUsed }
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
    errorName: (result) => (isError(result) === 0 ? undefined : String(nameOf(result))),
  }
}

function checkResult(lz4: Liblz4, result: bigint): void {
  const name = lz4.errorName(result)
  if (name !== undefined) throw invalid(`it is damaged (${name})`)
}

const invalid = (why: string): CodedError =>
  new CodedError('COMPRESSION_INVALID', `cannot decompress lz4: ${why}`)
