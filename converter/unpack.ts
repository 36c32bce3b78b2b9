import { promisify } from 'node:util'
import { inflate, inflateRaw, zstdDecompress } from 'node:zlib'
import { CodedError } from '../core/errors.ts'
import type { PackedExtent } from './one-pass.ts'
import type { Packing } from './run-queue.ts'
import { zstdFrameBytes } from '../core/zstd-frame.ts'

/** Bytes of a disk and their place on it; valid until the next extent is asked for. */
export interface Extent {
  readonly guest: number
  readonly bytes: Uint8Array
}

export interface UnpackOptions {
  readonly format: string
  /** What every compressed piece becomes. */
  readonly pieceBytes: number
  /** Known once the first packed extent has come. */
  virtualSize(): number
}

/** Pieces that Node's threads unpack at a time. */
const mostAtOnce = 8
const engines = {
  deflate: promisify(inflateRaw),
  zlib: promisify(inflate),
  zstd: promisify(zstdDecompress),
} as const satisfies Record<Exclude<Packing, 'plain'>, unknown>

/**
 * The same extents in the same order, unpacked and cut at the disk's end. Throws IMAGE_UNSAFE for
 * a piece that does not unpack to what the format says.
 */
export async function* unpacked(
  packed: AsyncIterable<PackedExtent>,
  { format, pieceBytes, virtualSize }: UnpackOptions,
): AsyncGenerator<Extent, void> {
  const atWork: { readonly guest: number; readonly bytes: Promise<Uint8Array> }[] = []

  async function unpack(
    guest: number,
    bytes: Uint8Array,
    packing: Exclude<Packing, 'plain'>,
  ): Promise<Uint8Array> {
    const size = Math.min(pieceBytes, virtualSize() - guest)
    const failed = (cause: unknown): CodedError =>
      new CodedError(
        'IMAGE_UNSAFE',
        `the ${format} is damaged: the data of guest byte ${guest} cannot be unpacked`,
        { cause },
      )
    let found: Uint8Array
    try {
      // Behind a frame lies what else is in its last sector.
      const exact = packing === 'zstd' ? bytes.subarray(0, zstdFrameBytes(bytes)) : bytes
      found = await engines[packing](exact, { maxOutputLength: pieceBytes })
    } catch (error) {
      throw failed(error)
    }
    if (found.length < size) throw failed(new Error(`${found.length} bytes of ${size}`))
    return found.subarray(0, size)
  }

  async function finish(): Promise<Extent | undefined> {
    const first = atWork.shift()
    return first && { guest: first.guest, bytes: await first.bytes }
  }

  for await (const { guest, bytes, packing } of packed) {
    if (packing !== 'plain') {
      const unpacking = unpack(guest, Uint8Array.from(bytes), packing)
      // Reported where it is awaited.
      unpacking.catch(() => {})
      atWork.push({ guest, bytes: unpacking })
    }
    while (atWork.length > (packing === 'plain' ? 0 : mostAtOnce)) {
      const extent = await finish()
      if (extent) yield extent
    }
    if (packing === 'plain') yield { guest, bytes }
  }
  for (;;) {
    const extent = await finish()
    if (!extent) return
    yield extent
  }
}
