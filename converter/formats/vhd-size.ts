/** VHD writers whose size field counts; the size of all others follows from the geometry. */
const sizeFieldWriters = new Set(['win ', 'qem2', 'd2v ', 'tap\0', 'CTXS', 'wa\0\0'])

/**
 * Virtual size of the VHD whose footer is `footer` (512 bytes), by QEMU's rule. A bigint: the
 * field has 64 bits.
 */
export function vhdVirtualSize(footer: Uint8Array): bigint {
  const view = new DataView(footer.buffer, footer.byteOffset, footer.length)
  const cylinders = view.getUint16(56)
  const heads = view.getUint8(58)
  const sectors = view.getUint8(59)
  const writer = Buffer.from(footer.subarray(28, 32)).toString('latin1')
  const isLargest = cylinders === 65_535 && heads === 16 && sectors === 255
  if (isLargest || sizeFieldWriters.has(writer)) return view.getBigUint64(48)
  return BigInt(cylinders * heads * sectors) * 512n
}
