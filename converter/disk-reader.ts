import type { DiskFormat } from '../core/disk-format.ts'
import { CodedError } from '../core/errors.ts'
import type { Bytes } from '../core/streams.ts'
import { readOnePass, type MapDisk } from './one-pass.ts'
import { parseQcow2Header } from './formats/qcow2-header.ts'
import { mapQcow2 } from './formats/qcow2-map.ts'
import { unpacked, type Extent } from './unpack.ts'
import { mapVdi, parseVdiHeader } from './formats/vdi-map.ts'
import { mapVhd, parseVhdHeader } from './formats/vhd-map.ts'
import { openVhdx } from './formats/vhdx-map.ts'
import { parseVmdkHeader } from './formats/vmdk-header.ts'
import { mapVmdk } from './formats/vmdk-map.ts'

/** Formats that keep a disk in pieces, with tables that say where they are. */
export type MappedFormat = Exclude<DiskFormat, 'raw' | 'iso'>

/** The data of a disk, in the order of its file; what no extent covers is zero. */
export interface DiskReader {
  /** Bytes; known from the head but for VHDX, and always once the extents have ended. */
  readonly virtualSize: number
  /** May be read once. */
  extents(): AsyncGenerator<Extent, void>
}

export interface OpenMappedOptions {
  readonly format: MappedFormat
  /** The first `headBytes` of the file. */
  readonly head: Uint8Array
  /** Bytes; a VHDX that says more is refused with SIZE_EXCEEDED. */
  readonly maxVirtualSize: number
}

export interface ReadDiskOptions extends OpenMappedOptions {
  /** Where bytes wait that come before the tables that tell their use. */
  readonly spillFolder: string
  readonly mostSpillBytes: number
  readonly signal: AbortSignal
}

export interface OpenedDisk {
  /** Of a VHDX known once its first run is mapped. */
  virtualSize: number
  /** To be found in the order of the file only. */
  readonly tablesAreAmongData: boolean
  /** What a compressed piece becomes. */
  readonly pieceBytes: number
  readonly map: MapDisk
}

/**
 * Reads a disk image in one pass over its file. Throws at once what its header is refused for; the
 * extents throw IMAGE_UNSAFE, IMAGE_INCOMPLETE, FORMAT_UNSUPPORTED and what `body` throws.
 */
export function readDisk(body: Bytes, options: ReadDiskOptions): DiskReader {
  const { format } = options
  const disk = openMappedDisk(options)
  return {
    get virtualSize() {
      return disk.virtualSize
    },
    async *extents() {
      const { pieceBytes, map } = disk
      const packed = readOnePass(body, map, options)
      yield* unpacked(packed, { format, pieceBytes, virtualSize: () => disk.virtualSize })
    },
  }
}

/** Throws what the header is refused for. */
export function openMappedDisk({ format, head, maxVirtualSize }: OpenMappedOptions): OpenedDisk {
  switch (format) {
    case 'qcow2': {
      const header = parseQcow2Header(head)
      const { virtualSize, clusterSize } = header
      const tablesAreAmongData = false
      return { virtualSize, tablesAreAmongData, pieceBytes: clusterSize, map: mapQcow2(header) }
    }
    case 'vmdk': {
      const header = parseVmdkHeader(head)
      const { virtualSize, grainBytes } = header
      const tablesAreAmongData = header.directoryOffset === undefined || header.isCompressed
      return { virtualSize, tablesAreAmongData, pieceBytes: grainBytes, map: mapVmdk(header) }
    }
    case 'vdi': {
      const header = parseVdiHeader(head)
      return { ...blocks, virtualSize: header.virtualSize, map: mapVdi(header) }
    }
    case 'vhd': {
      const header = parseVhdHeader(head)
      return { ...blocks, virtualSize: header.virtualSize, map: mapVhd(header) }
    }
    case 'vhdx': {
      const disk: OpenedDisk = {
        ...blocks,
        virtualSize: 0,
        async *map(file) {
          const opened = await openVhdx(file)
          disk.virtualSize = opened.virtualSize
          if (disk.virtualSize > maxVirtualSize) throw tooLarge(disk.virtualSize, maxVirtualSize)
          yield* opened.runs()
        },
      }
      return disk
    }
  }
}

/** Never packed. */
const blocks = { tablesAreAmongData: false, pieceBytes: 0 }

function tooLarge(virtualSize: number, most: number): CodedError {
  return new CodedError(
    'SIZE_EXCEEDED',
    `the disk has ${virtualSize} bytes, more than the allowed ${most} (maxVirtualSize)`,
  )
}
