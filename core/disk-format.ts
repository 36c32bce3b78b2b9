/** Disk image formats by QEMU's names (`vhd` is QEMU's `vpc`). An ISO is a format of its own. */
export type DiskFormat = 'raw' | 'iso' | 'qcow2' | 'vmdk' | 'vdi' | 'vhd' | 'vhdx'

/** Wrappings around an image, found by magic, never by name. */
export const compressions = ['gzip', 'xz', 'zstd', 'bzip2', 'lz4'] as const
export type Compression = (typeof compressions)[number]
