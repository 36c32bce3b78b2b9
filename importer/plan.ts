import type { DiskFormat } from '../core/disk-format.ts'
import { CodedError } from '../core/errors.ts'

export const storeModes = ['auto', 'as-is'] as const
/** `auto`: what nodes boot best from; `as-is`: the bytes as they came. */
export type StoreMode = (typeof storeModes)[number]

/** How an image will be stored. `copy`: the bytes as they came; `encode`: as our own qcow2. */
export interface StorePlan {
  readonly how: 'copy' | 'encode'
  readonly storedFormat: 'qcow2' | 'iso' | 'raw'
  /** Inside the layer's `disk/`. */
  readonly fileName: 'disk.qcow2' | 'disk.iso' | 'disk.img'
  readonly warning: string | undefined
}

/** Pure. Throws FORMAT_UNSUPPORTED for formats that are known but not stored yet. */
export function planStorage(format: DiskFormat, mode: StoreMode): StorePlan {
  switch (format) {
    case 'qcow2':
      return { how: 'copy', storedFormat: 'qcow2', fileName: 'disk.qcow2', warning: undefined }
    case 'iso':
      return { how: 'copy', storedFormat: 'iso', fileName: 'disk.iso', warning: undefined }
    case 'raw':
      if (mode === 'auto') {
        return { how: 'encode', storedFormat: 'qcow2', fileName: 'disk.qcow2', warning: undefined }
      }
      return {
        how: 'copy',
        storedFormat: 'raw',
        fileName: 'disk.img',
        warning: 'stored as raw: every node that runs the image unpacks its full size',
      }
    case 'vmdk':
    case 'vdi':
    case 'vhd':
    case 'vhdx':
      throw new CodedError(
        'FORMAT_UNSUPPORTED',
        `${format} images cannot be imported yet; convert it first: qemu-img convert -O qcow2 -c <image> disk.qcow2`,
        { detail: { format } },
      )
  }
}
