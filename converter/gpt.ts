import { crc32 } from 'node:zlib'
import { hasMagic } from './signatures.ts'
import type { ImageEnds } from './image-ends.ts'

/**
 * What tells that a raw disk was cut off: it has a valid GPT whose second header lies past its end,
 * or is not where it should be in the last bytes. A header that is not valid is contents like any
 * other.
 */
export function gptDoubt({ head, tail, length }: ImageEnds): string | undefined {
  for (const sectorSize of [512, 4096]) {
    const lastSector = alternateHeaderSector(head, sectorSize)
    if (lastSector === undefined) continue
    const end = (lastSector + 1n) * BigInt(sectorSize)
    if (end > BigInt(length)) {
      return `its partition table (GPT) ends at byte ${end}, only ${length} came`
    }
    const inTail = Number(end) - sectorSize - (length - tail.length)
    if (inTail >= 0 && !hasMagic(tail, inTail, 'EFI PART')) {
      return `the second header of its partition table (GPT) is missing at byte ${end - BigInt(sectorSize)}`
    }
    return undefined
  }
  return undefined
}

function alternateHeaderSector(head: Uint8Array, sectorSize: number): bigint | undefined {
  const at = sectorSize
  if (!hasMagic(head, at, 'EFI PART') || head.length < 2 * sectorSize) return undefined
  const header = Buffer.from(head.subarray(at, at + sectorSize))
  const size = header.readUInt32LE(12)
  const checksum = header.readUInt32LE(16)
  if (size < 92 || size > sectorSize) return undefined
  header.writeUInt32LE(0, 16)
  if (crc32(header.subarray(0, size)) !== checksum) return undefined
  return header.readBigUInt64LE(32)
}
