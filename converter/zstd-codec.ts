import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import koffi from 'koffi'

/** Compresses one buffer into one zstd frame (with content size, without checksum). */
export interface ZstdCompressor {
  /** `native`: libzstd inside the node binary with a reused context; `zlib`: node:zlib. */
  readonly engine: 'native' | 'zlib'
  /** Returns the frame's size; `target` holds at least `frameBound(source.length)` bytes. */
  compress(source: Uint8Array, target: Uint8Array): number
}

/** Bytes that a frame of `size` bytes of content can take at most (libzstd's ZSTD_COMPRESSBOUND). */
export function frameBound(size: number): number {
  const margin = size < 128 * 1024 ? (128 * 1024 - size) / 2048 : 0
  return size + Math.floor(size / 256) + Math.ceil(margin)
}

/**
 * The fastest compressor this node has. Both engines write the same bytes: the native one is
 * taken only where it is the library version node:zlib has and passes a self-test against it.
 */
export function createZstdCompressor(level: number): ZstdCompressor {
  const fallback = createZlibCompressor(level)
  try {
    const native = createNativeCompressor(level)
    return agree(native, fallback) ? native : fallback
  } catch {
    // A node without exported symbols or a platform without koffi: the other engine does it all.
    return fallback
  }
}

/** The engine that every node has. */
export function createZlibCompressor(level: number): ZstdCompressor {
  return {
    engine: 'zlib',
    compress(source, target) {
      const params = { [constants.ZSTD_c_compressionLevel]: level }
      const frame = zstdCompressSync(source, { params, chunkSize: frameBound(source.length) })
      target.set(frame)
      return frame.length
    },
  }
}

/** Throws where the process does not export libzstd in the version of node:zlib. */
export function createNativeCompressor(level: number): ZstdCompressor {
  const library = koffi.load(null)
  const version: unknown = library.func('const char *ZSTD_versionString()')()
  if (version !== process.versions.zstd) throw new Error(`libzstd ${String(version)} is another`)
  const createContext = library.func('void *ZSTD_createCCtx()')
  const isError = library.func('unsigned int ZSTD_isError(size_t code)')
  const compressFrame = library.func(
    'size_t ZSTD_compressCCtx(void *context, void *target, size_t capacity, void *source, size_t size, int level)',
  )
  const context: unknown = createContext()
  if (context === null) throw new Error('libzstd cannot make a context: no memory')
  return {
    engine: 'native',
    compress(source, target) {
      const size = Number(
        compressFrame(context, target, target.length, source, source.length, level),
      )
      if (isError(size) !== 0) throw new Error(`libzstd cannot compress ${source.length} bytes`)
      return size
    },
  }
}

function agree(native: ZstdCompressor, fallback: ZstdCompressor): boolean {
  const text = Buffer.from(Array.from({ length: 20_000 }, (_, at) => `${at * at}`).join(' '))
  const sample = text.subarray(0, 64 * 1024)
  const [one, other] = [native, fallback].map((engine) => {
    const target = new Uint8Array(frameBound(sample.length))
    return target.subarray(0, engine.compress(sample, target))
  })
  if (one === undefined || other === undefined) return false
  return Buffer.compare(one, other) === 0 && Buffer.compare(zstdDecompressSync(one), sample) === 0
}
