import type { DiskFormat } from '../core/disk-format.ts'
import { CodedError } from '../core/errors.ts'
import { createTail, observed, skipping, type Bytes } from '../core/streams.ts'
import { checkEnd, tailBytes, type Detected } from '../converter/detect.ts'
import { readDisk, type OpenMappedOptions } from '../converter/disk-reader.ts'
import { encodeExtents } from '../converter/extents-encoder.ts'
import { withoutVhdFooter } from '../converter/formats/vhd-fixed.ts'
import { encodeInOrder, encodeQcow2, type EncodeOptions } from '../converter/qcow2-encoder.ts'
import type { EncodedQcow2 } from '../converter/qcow2-writer.ts'
import { mapRanged } from '../converter/ranged-disk.ts'
import type { DiskRanges } from './pack.ts'

/** A disk of any format with its first `headBytes`. */
export interface EncodableDisk {
  readonly body: Bytes
  readonly ranges?: DiskRanges | undefined
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
 * Any disk as our qcow2, proved to be whole; one that is raw or read in any order can go on `from` a
 * state. The caller disposes it. Throws as `encodeQcow2`, `readDisk`, `mapRanged` and `checkEnd`, and
 * BLOB_UPLOAD_UNKNOWN where `from` is of no use any more.
 */
export async function encodeDisk(
  { body, ranges, start, head, detected, isProven }: EncodableDisk,
  options: EncodeOptions,
): Promise<EncodedDisk> {
  const { format } = detected
  if (format !== 'raw' && format !== 'iso') {
    const mapped = { format, head, maxVirtualSize: options.maxVirtualSize }
    const inOrder = ranges && (await encodeByRanges(ranges, mapped, options))
    if (inOrder) return { ...inOrder, format, warning: undefined }
    if (options.from) {
      throw new CodedError('BLOB_UPLOAD_UNKNOWN', 'the source can only be read from its start now')
    }
    const { from: _from, checkpoints: _checkpoints, ...rest } = options
    const reader = readDisk(body, { ...rest, ...mapped, mostSpillBytes: rest.maxVirtualSize })
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

/** `undefined` where one pass over the file is better, or the source has no ranges after all. */
async function encodeByRanges(
  ranges: DiskRanges,
  mapped: OpenMappedOptions,
  options: EncodeOptions,
): Promise<EncodedQcow2 | undefined> {
  const { signal } = options
  const disk = await mapRanged(ranges, { ...mapped, signal }).catch((error: unknown) => {
    if (error instanceof CodedError && error.code === 'SOURCE_UNAVAILABLE') return undefined
    throw error
  })
  if (!disk) return undefined
  const position = options.from?.position ?? 0
  ranges.expect(disk.bytesFrom(position))
  return encodeInOrder(disk.extents(position), { ...options, end: disk.virtualSize })
}
