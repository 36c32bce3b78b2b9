import { imageUnsafe } from './refusal.ts'

const sectorBytes = 512n

/** VHD writers whose size field counts; the size of all others follows from the geometry. */
const sizeFieldWriters = new Set(['win ', 'qem2', 'd2v ', 'tap\0', 'CTXS', 'wa\0\0'])

/**
 * Virtual size of the VHD whose footer is `footer` (512 bytes), by QEMU's rule. A bigint: the
 * field has 64 bits. Throws IMAGE_UNSAFE where it is no number of sectors: readers differ there.
 */
export function vhdVirtualSize(footer: Uint8Array): bigint {
  const view = new DataView(footer.buffer, footer.byteOffset, footer.length)
  const cylinders = view.getUint16(56)
  const heads = view.getUint8(58)
  const sectors = view.getUint8(59)
  const writer = Buffer.from(footer.subarray(28, 32)).toString('latin1')
  const isLargest = cylinders === 65_535 && heads === 16 && sectors === 255
  const size =
    isLargest || sizeFieldWriters.has(writer)
      ? view.getBigUint64(48)
      : BigInt(cylinders * heads * sectors) * sectorBytes
  if (size === 0n || size % sectorBytes !== 0n) {
    throw imageUnsafe('vhd', `its size is ${size} bytes; multiples of 512 above 0 are valid`)
  }
  return size
}
