import type { ImageEnds } from './image-ends.ts'
import { hasMagic } from './signatures.ts'

const descriptorsStart = 0x8000

/** True where `head` holds an ISO 9660 volume descriptor, with or without a partition table. */
export function isIso(head: Uint8Array): boolean {
  return hasMagic(head, descriptorsStart + 1, 'CD001')
}

/**
 * What tells that an ISO was cut off: its primary volume is longer than the `length` bytes that came.
 * Longer files are usual: hybrid images append partitions.
 */
export function isoDoubt({ head, length }: ImageEnds): string | undefined {
  const volumeSize = isoVolumeSize(head)
  return volumeSize !== undefined && volumeSize > length
    ? `its volume has ${volumeSize} bytes, only ${length} came`
    : undefined
}

/** Blocks × block size of the primary volume descriptor, where there is one within `head`. */
function isoVolumeSize(head: Uint8Array): number | undefined {
  const view = new DataView(head.buffer, head.byteOffset, head.length)
  for (let at = descriptorsStart; at + 2048 <= head.length; at += 2048) {
    if (!hasMagic(head, at + 1, 'CD001')) return undefined
    const type = view.getUint8(at)
    if (type === 1) return view.getUint32(at + 80, true) * view.getUint16(at + 128, true)
    if (type === 255) return undefined
  }
  return undefined
}
