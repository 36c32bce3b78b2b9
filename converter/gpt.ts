import { crc32 } from 'node:zlib'
import { CodedError } from '../core/errors.ts'
import { hasMagic } from './signatures.ts'

/**
 * Throws IMAGE_INCOMPLETE where the raw disk of `length` bytes has a valid GPT whose second header
 * would lie past the end. A header that is not valid is contents like any other.
 */
export function checkGptComplete(head: Uint8Array, length: number): void {
  for (const sectorSize of [512, 4096]) {
    const lastSector = alternateHeaderSector(head, sectorSize)
    if (lastSector === undefined) continue
    const needed = (lastSector + 1n) * BigInt(sectorSize)
    if (needed <= BigInt(length)) return
    throw new CodedError(
      'IMAGE_INCOMPLETE',
      `the raw disk is cut off: its partition table (GPT) ends at byte ${needed}, only ${length} came; check the source file`,
      { detail: { needed: String(needed), length } },
    )
  }
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
