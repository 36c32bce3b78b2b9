import koffi from 'koffi'
import { CodedError } from '../../core/errors.ts'
import type { NativeDecoder } from './decoder.ts'
import { addressOf, loadLibrary, type Library } from './native-library.ts'

/** liblzma's `lzma_ret`. */
const ok = 0
const streamEnd = 1
const streamBegun = 4
const memlimitError = 6
const bufferError = 10
/** liblzma's `lzma_action`. */
const run = 0
const finish = 3
/** Decode streams one after another, with padding between, until the input ends. */
const concatenated = 0x08
/** Say what follows a stream's header, once what came before that is given out. */
const tellCheck = 0x04
const headerBytes = 12

/** Sizes and offsets on 64-bit machines; all of it zero is the initial state of both. */
const stream = { bytes: 136, nextIn: 0, availIn: 8, nextOut: 24, availOut: 32 } as const
const threaded = {
  bytes: 128,
  flags: 0,
  threads: 4,
  memlimitThreading: 64,
  memlimitStop: 72,
} as const

export interface XzDecoderOptions {
  readonly threads: number
  /** Bytes; data that needs more is refused. */
  readonly memoryLimit: number
  /** Bytes; data that would need more for all its threads is decoded with fewer. */
  readonly threadedMemoryLimit: number
}

/**
 * xz by the system's liblzma, multi-block files on several threads. Throws UNAVAILABLE where it is
 * missing, and when decoding SIZE_EXCEEDED where the data needs more than the memory limit.
 */
export function createXzDecoder(decoding: XzDecoderOptions): NativeDecoder {
  const { threads, memoryLimit, threadedMemoryLimit } = decoding
  const lzma = (library ??= load())
  const state = Buffer.alloc(stream.bytes)
  const options = Buffer.alloc(threaded.bytes)
  options.writeUInt32LE(concatenated | tellCheck, threaded.flags)
  options.writeUInt32LE(threads, threaded.threads)
  options.writeBigUInt64LE(BigInt(threadedMemoryLimit), threaded.memlimitThreading)
  options.writeBigUInt64LE(BigInt(memoryLimit), threaded.memlimitStop)
  const started = lzma.startThreaded
    ? lzma.startThreaded(state, options)
    : lzma.start(state, BigInt(memoryLimit), concatenated | tellCheck)
  if (started !== ok) throw new CodedError('UNAVAILABLE', `liblzma does not start (${started})`)
  const tooLarge = (): CodedError =>
    new CodedError(
      'SIZE_EXCEEDED',
      `cannot decompress xz: with its dictionary a block needs more than the allowed ${memoryLimit} bytes of memory; compress it again with a smaller one (xz -9 or less)`,
    )
  return {
    decode(input, output, last) {
      state.writeBigUInt64LE(addressOf(input), stream.nextIn)
      state.writeBigUInt64LE(BigInt(input.length), stream.availIn)
      state.writeBigUInt64LE(addressOf(output), stream.nextOut)
      state.writeBigUInt64LE(BigInt(output.length), stream.availOut)
      const result = lzma.code(state, last ? finish : run)
      const consumed = input.length - Number(state.readBigUInt64LE(stream.availIn))
      const produced = output.length - Number(state.readBigUInt64LE(stream.availOut))
      // Nothing to do is not a failure while more input can come.
      const isIdle = result === bufferError && !last
      if (![ok, streamEnd, streamBegun].includes(result) && !isIdle) {
        throw result === memlimitError ? tooLarge() : refusal(result)
      }
      const begun = result === streamBegun ? headerBytes : undefined
      return { consumed, produced, ended: result === streamEnd, begun }
    },
    [Symbol.dispose]() {
      lzma.end(state)
      lzma.trim?.(0)
    },
  }
}

interface Liblzma {
  /** Since liblzma 5.4; older ones decode on one thread. */
  readonly startThreaded: ((state: Buffer, options: Buffer) => number) | undefined
  start(state: Buffer, memoryLimit: bigint, flags: number): number
  code(state: Buffer, action: number): number
  end(state: Buffer): void
  /** glibc's: gives back the blocks that were buffered, 100 MB and more, instead of keeping them. */
  readonly trim: ((keep: number) => void) | undefined
}

let library: Liblzma | undefined

function load(): Liblzma {
  const lzma = loadLibrary({ file: 'liblzma.so.5', name: 'xz', packages: 'xz-utils (or liblzma5)' })
  const start = lzma.func('int lzma_stream_decoder(void *stream, uint64_t limit, uint32_t flags)')
  const code = lzma.func('int lzma_code(void *stream, int action)')
  const end = lzma.func('void lzma_end(void *stream)')
  return {
    startThreaded: optional(lzma, 'int lzma_stream_decoder_mt(void *stream, void *options)'),
    trim: optional(koffi.load(null), 'int malloc_trim(size_t keep)'),
    start: (state, limit, flags) => Number(start(state, limit, flags)),
    code: (state, action) => Number(code(state, action)),
    end: (state) => void end(state),
  }
}

/** Undefined where the library has no such function: liblzma before 5.4, a libc that is not glibc. */
function optional(library: Library, declaration: string): ReturnType<Library['func']> | undefined {
  try {
    return library.func(declaration)
  } catch {
    // That it is missing is the answer.
    return undefined
  }
}

function refusal(result: number): CodedError {
  const reasons: Readonly<Record<number, string>> = {
    7: 'other bytes follow its end',
    8: 'it uses options that liblzma does not know',
    9: 'it is damaged',
    [bufferError]: 'it ends too early; the file is truncated',
  }
  const why = reasons[result] ?? `liblzma answered ${result}`
  return new CodedError('COMPRESSION_INVALID', `cannot decompress xz: ${why}`)
}
