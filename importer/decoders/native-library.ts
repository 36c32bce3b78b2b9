import koffi from 'koffi'
import { CodedError } from '../../core/errors.ts'

export type Library = ReturnType<typeof koffi.load>

/** A library of the system. Throws UNAVAILABLE that says which packages have it. */
export function loadLibrary(wanted: {
  readonly file: string
  /** What it decompresses. */
  readonly name: string
  readonly packages: string
}): Library {
  const { file, name, packages } = wanted
  try {
    return koffi.load(file)
  } catch (error) {
    throw new CodedError(
      'UNAVAILABLE',
      `cannot decompress ${name}: the library ${file} is missing; install ${packages}`,
      { cause: error },
    )
  }
}

let memcpy: ((to: Uint8Array, from: Uint8Array, size: number) => number | bigint) | undefined

/** Where the bytes are in memory; 0 for none. They must not move: no `resize` while it is used. */
export function addressOf(bytes: Uint8Array): bigint {
  if (bytes.length === 0) return 0n
  // memcpy of nothing answers its first argument.
  memcpy ??= koffi.load(null).func('uint64_t memcpy(void *to, void *from, size_t size)')
  return BigInt(memcpy(bytes, bytes, 0))
}
