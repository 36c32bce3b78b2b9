import type { DiskFormat } from '../core/disk-format.ts'
import { createTail, observed, skipping, type Bytes } from '../core/streams.ts'
import { checkEnd, tailBytes, type Detected } from '../converter/detect.ts'
import { readDisk } from '../converter/disk-reader.ts'
import { encodeExtents } from '../converter/extents-encoder.ts'
import { withoutVhdFooter } from '../converter/formats/vhd-fixed.ts'
import { encodeQcow2, type EncodeOptions } from '../converter/qcow2-encoder.ts'
import type { EncodedQcow2 } from '../converter/qcow2-writer.ts'

/** A disk of any format with its first `headBytes`. */
export interface EncodableDisk {
  readonly body: Bytes
  /** Bytes of the disk before `body`. */
  readonly start: number
  readonly head: Uint8Array
  readonly detected: Detected
  /** A length, a checksum or the end of a compression says that all of it came. */
  readonly isProven: boolean
}

/** A disk as our qcow2, and what was found of it meanwhile. */
export interface EncodedDisk extends EncodedQcow2 {
  /** What its end has shown it to be. */
  readonly format: DiskFormat
  /** What is strange about it, for people. */
  readonly warning: string | undefined
}

/**
 * Any disk as our qcow2, proved to be whole; a raw one can go on `from` a state. The
 * caller disposes it. Throws as `encodeQcow2`, `readDisk` and `checkEnd`.
 */
export async function encodeDisk(
  { body, start, head, detected, isProven }: EncodableDisk,
  options: EncodeOptions,
): Promise<EncodedDisk> {
  const { format } = detected
  if (format !== 'raw' && format !== 'iso') {
    const { from: _from, checkpoints: _checkpoints, ...rest } = options
    const reader = readDisk(body, { ...rest, format, head, mostSpillBytes: rest.maxVirtualSize })
    return { ...(await encodeExtents(reader, rest)), format, warning: undefined }
  }
  const tail = createTail(tailBytes)
  let isFixedVhd = false
  const raw = observed(
    withoutVhdFooter(body, start, () => (isFixedVhd = true)),
    tail.push,
  )
  const encoded = await encodeQcow2(skipping(raw, (options.from?.position ?? 0) - start), options)
  const ends = { head, tail: tail.bytes(), length: encoded.sourceSize }
  const warning = checkEnd(detected, ends, { isProven })
  return { ...encoded, format: isFixedVhd ? 'vhd' : format, warning }
}
