import { CodedError } from '../../core/errors.ts'
import type { NativeDecoder } from './decoder.ts'
import { addressOf, loadLibrary } from './native-library.ts'
import { assertPadding } from './padding.ts'

/** What the functions of libbz2 answer. */
const ok = 0
const streamEnd = 4

/** `bz_stream` on 64-bit machines; all of it zero is the initial state. */
const stream = { bytes: 80, nextIn: 0, availIn: 8, nextOut: 24, availOut: 32 } as const

/**
 * bzip2 by the system's libbz2: streams one after another, each with its checksums proven, then
 * zeros. Throws UNAVAILABLE where it is missing.
 */
export function createBzip2Decoder(): NativeDecoder {
  const bz2 = (library ??= load())
  const state = Buffer.alloc(stream.bytes)
  let isOpen = false
  let isPadding = false

  function close(): void {
    if (isOpen) bz2.end(state)
    isOpen = false
  }

  function open(): void {
    state.fill(0)
    const started = bz2.init(state)
    if (started !== ok) throw new CodedError('UNAVAILABLE', `libbz2 does not start (${started})`)
    isOpen = true
  }

  return {
    decode(input, output, last) {
      isPadding ||= !isOpen && input[0] === 0
      if (isPadding) assertPadding(input, 'bzip2')
      if (isPadding || (!isOpen && input.length === 0)) {
        return { consumed: input.length, produced: 0, ended: last }
      }
      if (!isOpen) {
        open()
        return { consumed: 0, produced: 0, ended: false, begun: 0 }
      }
      state.writeBigUInt64LE(addressOf(input), stream.nextIn)
      state.writeUInt32LE(input.length, stream.availIn)
      state.writeBigUInt64LE(addressOf(output), stream.nextOut)
      state.writeUInt32LE(output.length, stream.availOut)
      const result = bz2.decompress(state)
      const consumed = input.length - state.readUInt32LE(stream.availIn)
      const produced = output.length - state.readUInt32LE(stream.availOut)
      // The next stream, if there is one, begins with the next byte.
      if (result === streamEnd) close()
      else if (result !== ok) throw refusal(result)
      const isUsed = consumed === input.length
      if (last && isOpen && isUsed && produced < output.length) {
        throw invalid('it ends too early; the file is truncated')
      }
      return { consumed, produced, ended: last && !isOpen && isUsed }
    },
    [Symbol.dispose]: close,
  }
}

interface Libbz2 {
  init(state: Buffer): number
  decompress(state: Buffer): number
  end(state: Buffer): void
}

let library: Libbz2 | undefined

function load(): Libbz2 {
  const bz2 = loadLibrary({ file: 'libbz2.so.1.0', name: 'bzip2', packages: 'libbz2-1.0' })
  const init = bz2.func('int BZ2_bzDecompressInit(void *stream, int verbosity, int small)')
  const decompress = bz2.func('int BZ2_bzDecompress(void *stream)')
  const end = bz2.func('int BZ2_bzDecompressEnd(void *stream)')
  return {
    init: (state) => Number(init(state, 0, 0)),
    decompress: (state) => Number(decompress(state)),
    end: (state) => void end(state),
  }
}

function refusal(result: number): CodedError {
  const reasons: Readonly<Record<number, string>> = {
    [-4]: 'it is damaged',
    [-5]: 'other bytes follow its end',
  }
  return invalid(reasons[result] ?? `libbz2 answered ${result}`)
}

const invalid = (why: string): CodedError =>
  new CodedError('COMPRESSION_INVALID', `cannot decompress bzip2: ${why}`)
