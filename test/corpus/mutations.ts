import { crc32 } from 'node:zlib'
import { crc32c } from '../../converter/formats/crc32c.ts'

/** Numbers in [0, 1). */
type Random = () => number

/** A part of a file where its fields and tables are. */
interface Structure {
  readonly start: number
  readonly end: number
}

/**
 * A copy of `image` with one to four changes, most of them to its tables and fields: other numbers,
 * numbers from elsewhere in it, bytes changed, cut off, repeated. Checksums are made right again
 * more often than not. The same random numbers give the same file.
 */
export function mutated(image: Buffer, random: Random): Buffer {
  let bytes: Buffer = Buffer.from(image)
  const structures = structuresOf(bytes).filter(({ start, end }) => start < end)
  for (let rest = 1 + below(random, 4); rest > 0 && bytes.length > 16; rest--) {
    bytes = changed(bytes, structures, random)
  }
  if (random() < 0.7) mendChecksums(bytes)
  return bytes
}

const below = (random: Random, most: number): number => Math.floor(random() * most)

function changed(bytes: Buffer, structures: readonly Structure[], random: Random): Buffer {
  const kind = random()
  if (kind < 0.7) {
    setNumber(bytes, structures[below(random, structures.length)], random)
  } else if (kind < 0.85) {
    bytes[below(random, bytes.length)] = below(random, 256)
  } else if (kind < 0.9) {
    return bytes.subarray(0, below(random, bytes.length))
  } else if (kind < 0.95) {
    const size = 512 * (1 + below(random, 128))
    const from = below(random, bytes.length)
    bytes.copy(bytes, below(random, bytes.length), from, from + size)
  } else {
    const at = below(random, bytes.length)
    return Buffer.concat([bytes.subarray(0, at), Buffer.alloc(512), bytes.subarray(at)])
  }
  return bytes
}

function setNumber(bytes: Buffer, structure: Structure | undefined, random: Random): void {
  const { start, end } = structure ?? { start: 0, end: bytes.length }
  const size = [1, 2, 4, 8][below(random, 4)] ?? 8
  // The first entries of a table are the ones in use.
  const span = random() < 0.5 ? Math.min(end - start, 64) : end - start
  const at = start + below(random, span / size) * size
  const from = start + below(random, span / size) * size
  if (at + size > bytes.length || from + size > bytes.length) return
  if (random() < 0.3) {
    bytes.copy(bytes, at, from, from + size)
    return
  }
  const isLittle = random() < 0.5
  const number = Buffer.alloc(8)
  number.writeBigUInt64LE(BigInt.asUintN(64, interesting(bytes, random)))
  const field = number.subarray(0, size)
  bytes.set(isLittle ? field : field.toReversed(), at)
}

function interesting(bytes: Buffer, random: Random): bigint {
  const power = 1n << BigInt(below(random, 64))
  const small = BigInt(below(random, 8))
  const length = BigInt(bytes.length)
  const place = BigInt(below(random, bytes.length))
  const numbers = [0n, 1n, small, -small, power, power - 1n, length, length - small]
  const places = [place, place / 512n, (place / 65_536n) * 65_536n, length / 512n]
  const all = [...numbers, ...places]
  return all[below(random, all.length)] ?? 0n
}

/** Where the format that a file begins as has its fields; for others its first kilobytes. */
function structuresOf(bytes: Buffer): Structure[] {
  const at = (start: number, size: number): Structure => ({
    start: Math.min(start, bytes.length),
    end: Math.min(start + size, bytes.length),
  })
  const tail = at(bytes.length - 1024, 1024)
  const magic = bytes.toString('latin1', 0, 8)
  if (magic.startsWith('QFI')) {
    const l1 = Number(bytes.readBigUInt64BE(40))
    const l2 = l1 + 8 <= bytes.length ? Number(bytes.readBigUInt64BE(l1) & 0xff_ff_ff_ff_ff_00n) : 0
    return [at(4, 108), at(104, 300), at(l1, 64), at(l2, 1024)]
  }
  if (magic.startsWith('KDMV')) {
    const directory = Number(bytes.readBigUInt64LE(56) % 2n ** 32n) * 512
    const table = directory + 4 <= bytes.length ? bytes.readUInt32LE(directory) * 512 : 0
    return [at(4, 76), at(512, 600), at(directory, 64), at(table, 512), tail]
  }
  if (bytes.readUInt32LE(0x40) === 0xbe_da_10_7f) return [at(0x40, 448), at(512, 64)]
  if (magic === 'conectix') return [at(8, 80), at(512, 80), at(1536, 64), tail]
  if (magic === 'vhdxfile') {
    const mib = 1024 * 1024
    return [
      at(64 * 1024, 80),
      at(128 * 1024, 80),
      at(192 * 1024, 96),
      at(256 * 1024, 96),
      at(2 * mib, 256),
      at(3 * mib, 256),
      at(3 * mib + 64 * 1024, 64),
    ]
  }
  return [at(0, 600), at(512, 512), at(0x8000, 4096), tail]
}

function mendChecksums(bytes: Buffer): void {
  for (const footer of [0, bytes.length - 512]) mendSum(bytes, footer, 'conectix', 512, 64)
  mendSum(bytes, 512, 'cxsparse', 1024, 36)
  for (const [at, size] of [
    [64, 4],
    [128, 4],
    [192, 64],
    [256, 64],
  ] as const) {
    const structure = bytes.subarray(at * 1024, (at + size) * 1024)
    if (!/^(?:head|regi)/.test(structure.toString('latin1', 0, 4))) continue
    structure.writeUInt32LE(0, 4)
    structure.writeUInt32LE(crc32c(structure), 4)
  }
  if (bytes.toString('latin1', 512, 520) === 'EFI PART') {
    const header = bytes.subarray(512, 1024)
    header.writeUInt32LE(0, 16)
    header.writeUInt32LE(crc32(header.subarray(0, header.readUInt32LE(12))), 16)
  }
  if (bytes.toString('latin1', 257, 262) === 'ustar') {
    bytes.fill(' ', 148, 156)
    const sum = bytes.subarray(0, 512).reduce((all, byte) => all + byte, 0)
    bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  }
}

/** A VHD's: the complement of the sum of all other bytes. */
function mendSum(bytes: Buffer, start: number, magic: string, size: number, at: number): void {
  const structure = bytes.subarray(Math.max(0, start), Math.max(0, start) + size)
  if (structure.length < size || structure.toString('latin1', 0, 8) !== magic) return
  structure.writeUInt32BE(0, at)
  structure.writeUInt32BE(~structure.reduce((all, byte) => all + byte, 0) >>> 0, at)
}
