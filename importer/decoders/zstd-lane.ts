import { constants as zlib, createZstdDecompress } from 'node:zlib'
import { damaged, giveBack, outputBytes } from './zlib-stage.ts'

/** What a lane may hold of its input. */
const inputBytes = 2 * 1024 * 1024
const windowLog = 27

/** One of several decoders, whose output waits for its turn. */
export interface ZstdLane {
  /** `bytes` is the lane's until it calls `release`. False: more fits once `onChange` was called. */
  write(bytes: Uint8Array, release: () => void): boolean
  isFull(): boolean
  /** It failed, which `read` tells, or was closed: nothing more can be written. */
  isOver(): boolean
  /** No more input comes. */
  end(): void
  /** The output; each chunk until the next one is asked for. Throws COMPRESSION_INVALID. */
  read(): AsyncGenerator<Uint8Array, void>
  close(): void
}

/**
 * Decodes in Node's thread pool as soon as it is written to, and stops while `aheadBytes` of
 * output wait to be read.
 */
export function openZstdLane({
  aheadBytes,
  onChange,
}: {
  readonly aheadBytes: number
  readonly onChange: () => void
}): ZstdLane {
  const options = {
    chunkSize: outputBytes,
    params: { [zlib.ZSTD_d_windowLogMax]: windowLog },
    writableHighWaterMark: inputBytes,
  }
  const decoder = createZstdDecompress(options)
  const chunks: Uint8Array<ArrayBuffer>[] = []
  let waiting = 0
  let failure: unknown
  let wake = (): void => {}
  // Not read as an iterable: that would copy all chunks that wait into one.
  decoder.on('data', (chunk: Uint8Array<ArrayBuffer>) => {
    chunks.push(chunk)
    waiting += chunk.length
    if (waiting >= aheadBytes) decoder.pause()
    wake()
  })
  decoder.on('error', (error) => (failure = error))
  decoder.on('drain', onChange)
  decoder.on('close', () => {
    wake()
    onChange()
  })

  return {
    write: (bytes, release) => decoder.write(bytes, release),
    isFull: () => decoder.writableNeedDrain,
    isOver: () => decoder.destroyed,
    end: () => void decoder.end(),
    async *read() {
      for (;;) {
        const chunk = chunks.shift()
        if (chunk) {
          waiting -= chunk.length
          if (waiting < aheadBytes) decoder.resume()
          yield chunk
          giveBack(chunk)
        } else if (!decoder.destroyed) {
          await new Promise<void>((resolve) => (wake = resolve))
        } else if (decoder.readableEnded) {
          return
        } else {
          throw damaged('zstd', failure)
        }
      }
    },
    close: () => void decoder.destroy(),
  }
}
