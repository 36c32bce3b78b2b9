import { createBzip2Decoder } from './libbz2.ts'
import { createLz4Decoder } from './liblz4.ts'
import { createXzDecoder, type XzDecoderOptions } from './liblzma.ts'

/** What one call of `decode` did. */
export interface DecodeStep {
  readonly consumed: number
  readonly produced: number
  /** All is decoded and the input was proven to end here. */
  readonly ended: boolean
}

/** One compressed file being decoded; disposing it frees what it holds. */
export interface NativeDecoder extends Disposable {
  /**
   * Decodes from `input` into `output` as far as both reach; `last` says that no more input comes.
   * Throws COMPRESSION_INVALID, also for bytes behind the end.
   */
  decode(input: Uint8Array, output: Uint8Array, last: boolean): DecodeStep
}

/** Which library, and how. */
export type NativeDecoding =
  | ({ readonly kind: 'xz' } & XzDecoderOptions)
  | { readonly kind: 'bzip2' | 'lz4' }

/** Throws UNAVAILABLE where the library is missing. */
export function createNativeDecoder(decoding: NativeDecoding): NativeDecoder {
  switch (decoding.kind) {
    case 'xz':
      return createXzDecoder(decoding)
    case 'bzip2':
      return createBzip2Decoder()
    case 'lz4':
      return createLz4Decoder()
  }
}
