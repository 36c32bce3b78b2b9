import koffi from 'koffi'
import { CodedError } from '../core/errors.ts'
import type { Bytes } from '../core/streams.ts'

/** liblzma's `lzma_ret`. */
const ok = 0
const streamEnd = 1
const memoryLimitReached = 6
/** liblzma's `lzma_action`. */
const run = 0
const finish = 3
/** Decode streams one after another, with padding between, until the input ends. */
const concatenated = 0x08

/** Offsets in `lzma_stream` on 64-bit machines; all of it zero is its initial state. */
const streamBytes = 136
const nextIn = 0
const availIn = 8
const nextOut = 24
const availOut = 32

const outputBytes = 256 * 1024

interface Liblzma {
  decoder(stream: Buffer, memoryLimit: bigint, flags: number): number
  code(stream: Buffer, action: number): number
  end(stream: Buffer): void
  address(bytes: Uint8Array): bigint
}

function loadLiblzma(): Liblzma {
  const library = koffi.load('liblzma.so.5')
  // memcpy of nothing answers its first argument: the address of the bytes.
  const memcpy = koffi.load(null).func('uint64_t memcpy(void *to, void *from, size_t size)')
  const decoder = library.func(
    'int lzma_stream_decoder(void *stream, uint64_t limit, uint32_t flags)',
  )
  const code = library.func('int lzma_code(void *stream, int action)')
  const end = library.func('void lzma_end(void *stream)')
  return {
    decoder: (stream, limit, flags) => Number(decoder(stream, limit, flags)),
    code: (stream, action) => Number(code(stream, action)),
    end: (stream) => void end(stream),
    address: (bytes) => BigInt(memcpy(bytes, bytes, 0)),
  }
}

let loaded: Liblzma | undefined

/**
 * xz by the system's liblzma, in this process: the way where the `xz` command is missing. Decodes
 * in small slices between awaits, on one core. Throws COMPRESSION_INVALID for damaged, truncated
 * or trailing bytes, UNAVAILABLE where liblzma is missing too.
 */
export async function* xzByLibrary(
  input: Bytes,
  { memoryLimit }: { readonly memoryLimit: number },
): AsyncGenerator<Uint8Array, void> {
  const lzma = (loaded ??= available())
  const stream = Buffer.alloc(streamBytes)
  const output = Buffer.allocUnsafeSlow(outputBytes)
  const outputAddress = lzma.address(output)
  if (lzma.decoder(stream, BigInt(memoryLimit), concatenated) !== ok) {
    throw new CodedError('UNAVAILABLE', 'cannot start the xz decoder of liblzma')
  }
  function* decode(chunk: Uint8Array, action: number): Generator<Uint8Array, void> {
    stream.writeBigUInt64LE(chunk.length === 0 ? 0n : lzma.address(chunk), nextIn)
    stream.writeBigUInt64LE(BigInt(chunk.length), availIn)
    for (;;) {
      stream.writeBigUInt64LE(outputAddress, nextOut)
      stream.writeBigUInt64LE(BigInt(outputBytes), availOut)
      const result = lzma.code(stream, action)
      const room = Number(stream.readBigUInt64LE(availOut))
      if (room < outputBytes) yield output.subarray(0, outputBytes - room)
      if (result === streamEnd) return
      if (result !== ok) throw invalid(result)
      if (room > 0 && action === run && stream.readBigUInt64LE(availIn) === 0n) return
    }
  }
  try {
    for await (const chunk of input) yield* decode(chunk, run)
    yield* decode(new Uint8Array(0), finish)
  } finally {
    lzma.end(stream)
  }
}

function available(): Liblzma {
  try {
    return loadLiblzma()
  } catch (error) {
    throw new CodedError(
      'UNAVAILABLE',
      'cannot decompress xz: neither the xz command nor liblzma.so.5 is installed; install xz-utils',
      { cause: error },
    )
  }
}

function invalid(result: number): CodedError {
  if (result === memoryLimitReached) {
    return new CodedError('SIZE_EXCEEDED', 'the xz data needs more memory than is allowed to it')
  }
  const reasons: Readonly<Record<number, string>> = {
    7: 'what follows is not xz',
    8: 'it uses options that liblzma does not know',
    9: 'it is damaged',
    10: 'it ends too early',
  }
  const why = reasons[result] ?? `liblzma answered ${result}`
  return new CodedError('COMPRESSION_INVALID', `cannot decompress xz: ${why}`)
}
