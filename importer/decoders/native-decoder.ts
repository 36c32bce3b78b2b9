import type { NativeDecoder } from './decoder.ts'
import { createBzip2Decoder } from './libbz2.ts'
import { createLz4Decoder } from './liblz4.ts'
import { createXzDecoder, type XzDecoderOptions } from './liblzma.ts'

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
