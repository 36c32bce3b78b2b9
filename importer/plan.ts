import { CodedError } from '../core/errors.ts'
import type { Detected } from '../converter/detect.ts'

export const storeModes = ['auto', 'as-is'] as const
/** `auto`: what nodes boot best from; `as-is`: the bytes as they came. */
export type StoreMode = (typeof storeModes)[number]

/** What a plan depends on. */
export type PlannedDisk = Pick<Detected, 'format' | 'unclean'>

/** How an image will be stored. `copy`: the bytes as they came; `encode`: as our own qcow2. */
export interface StorePlan {
  readonly how: 'copy' | 'encode'
  readonly storedFormat: 'qcow2' | 'iso' | 'raw'
  /** Inside the layer's `disk/`. */
  readonly fileName: 'disk.qcow2' | 'disk.iso' | 'disk.img'
  readonly warning: string | undefined
}

const ours = {
  how: 'encode',
  storedFormat: 'qcow2',
  fileName: 'disk.qcow2',
  warning: undefined,
} as const satisfies StorePlan

/** Pure. Throws FORMAT_UNSUPPORTED where `mode` does not allow what the format needs. */
export function planStorage({ format, unclean }: PlannedDisk, mode: StoreMode): StorePlan {
  switch (format) {
    case 'iso':
      return { how: 'copy', storedFormat: 'iso', fileName: 'disk.iso', warning: undefined }
    case 'raw':
      if (mode === 'auto') return ours
      return {
        how: 'copy',
        storedFormat: 'raw',
        fileName: 'disk.img',
        warning: 'stored as raw: every node that runs the image unpacks its full size',
      }
    case 'qcow2':
      if (unclean !== undefined)
        return rewritten(`the qcow2 cannot be stored as it is: ${unclean}`, mode)
      return { how: 'copy', storedFormat: 'qcow2', fileName: 'disk.qcow2', warning: undefined }
    case 'vmdk':
    case 'vdi':
    case 'vhd':
    case 'vhdx':
      return rewritten(`no node boots from a ${format}`, mode)
  }
}

function rewritten(why: string, mode: StoreMode): StorePlan {
  if (mode === 'auto') return ours
  throw new CodedError('FORMAT_UNSUPPORTED', `${why}; leave --store as-is out to have it rewritten`)
}
