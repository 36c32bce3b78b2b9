/** Numbers of the qcow2 format. @see QEMU docs/interop/qcow2.rst */

export const qcow2Magic = 0x51_46_49_fb
export const tableEntryBytes = 8

export const incompatibleBits = {
  dirty: 0,
  corrupt: 1,
  externalDataFile: 2,
  compressionType: 3,
  extendedL2: 4,
} as const

export const headerExtension = {
  end: 0,
  fullDiskEncryption: 0x05_37_be_77,
  externalDataFileName: 0x44_41_54_41,
} as const

/** Bits 32–63 of an L2 entry: refcount is exactly one (OFLAG_COPIED). */
export const copiedFlag = 0x80_00_00_00
/** Bits 32–63 of an L2 entry: the cluster is compressed. */
export const compressedFlag = 0x40_00_00_00
export const compressedSectorBytes = 512
