import type { Digest } from '../core/digest.ts'
import type { DiskFormat } from '../core/disk-format.ts'
import { CodedError } from '../core/errors.ts'
import { observed, peek } from '../core/streams.ts'
import { detect, headBytes } from '../converter/detect.ts'
import type { ClusterPool } from '../converter/cluster-pool.ts'
import { decompress } from './decoders/decompress.ts'
import { encodeDisk } from './encode-disk.ts'
import {
  openImageSource,
  type ImageReader,
  type ImageSourceOptions,
} from './sources/image-source.ts'

export interface ImageContentOptions extends ImageSourceOptions {
  readonly clusterPool: ClusterPool
  /** Takes up to what the disk takes as a compressed qcow2, for files whose data is not in order. */
  readonly scratchFolder: string
  /** Bytes; a larger disk is refused with SIZE_EXCEEDED. */
  readonly maxVirtualSize: number
  /** Called with every so many bytes that came from the registry. */
  readonly onBytes: (bytes: number) => void
}

/** What a stored image holds, whatever it says of itself. */
export interface ImageContent {
  readonly format: DiskFormat
  readonly virtualSize: number
  /** As `contentDigestOf` defines it. */
  readonly contentDigest: Digest
}

/**
 * Reads the disk of any image to its end, goes on where a connection breaks, and says what its
 * content is: encoded as an import would, into nothing. Throws as `openImageSource`, `detect` and
 * `encodeDisk`.
 */
export async function readImageContent(
  { manifests, blobs }: ImageReader,
  { onBytes, clusterPool, maxVirtualSize, scratchFolder, ...options }: ImageContentOptions,
): Promise<ImageContent> {
  const { signal } = options
  const counted: ImageReader = {
    manifests,
    blobs: {
      read: (digest, range) => observed(blobs.read(digest, range), ({ length }) => onBytes(length)),
    },
  }
  await using source = await openImageSource(counted, { ...options, maxVirtualSize })
  const plain = await decompress(source.body, { maxVirtualSize })
  const { head, rest } = await peek(plain.body, headBytes)
  await using body = rest
  const length = plain.wrappings.length === 0 ? source.length : undefined
  const detected = detect(head, { length })
  if ((detected.virtualSize ?? 0) > maxVirtualSize) {
    throw new CodedError(
      'SIZE_EXCEEDED',
      `the disk has ${detected.virtualSize} bytes, more than ${maxVirtualSize}`,
    )
  }
  await using encoded = await encodeDisk(
    // All layers are compared with their digests.
    { body, start: 0, head, detected, isProven: true },
    {
      write: async () => {},
      maxVirtualSize,
      spillFolder: scratchFolder,
      pool: clusterPool,
      signal,
    },
  )
  const { format, virtualSize, contentDigest } = encoded
  return { format, virtualSize, contentDigest }
}
