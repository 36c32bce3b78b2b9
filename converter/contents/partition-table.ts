import { crc32 } from 'node:zlib'
import { attempt, plainText, uuidText, type DiskBytes } from './disk-bytes.ts'
import { gptTypeName } from './partition-types.ts'

export interface Partition {
  readonly number: number
  /** A name of `partition-types.ts`, else the GUID; of an MBR its byte as `0x83`. */
  readonly type: string
  /** In bytes. */
  readonly start: number
  readonly size: number
  readonly name: string | undefined
  /** Marked for a BIOS to start from. */
  readonly isActive: boolean
}

export interface PartitionTable {
  /** `undefined`: not even the first sector could be read. */
  readonly kind: 'none' | 'mbr' | 'gpt' | undefined
  readonly partitions: readonly Partition[]
}

/** More than that are not looked at. */
const mostPartitions = 128
const entryBytes = 16
const extendedTypes = new Set([0x05, 0x0f, 0x85])
const protective = 0xee

/** A GPT that holds, else an MBR. @see UEFI 2.10 §5.2 and §5.3 */
export async function readPartitionTable(disk: DiskBytes): Promise<PartitionTable> {
  const sector = await attempt(() => disk.read(0, 512))
  if (!sector) return { kind: undefined, partitions: [] }
  const main = mbrEntries(sector)
  for (const sectorBytes of [512, 4096]) {
    const gpt = (await readGpt(disk, 1, sectorBytes)) ?? (await readGpt(disk, -1, sectorBytes))
    if (gpt) return { kind: 'gpt', partitions: gpt }
  }
  if (!isMbr(sector, main, disk.size)) return { kind: 'none', partitions: [] }
  if (main.some(({ type }) => type === protective)) return { kind: 'gpt', partitions: [] }
  return { kind: 'mbr', partitions: await mbrPartitions(disk, main) }
}

interface MbrEntry {
  readonly status: number
  readonly type: number
  /** In sectors of 512 bytes. */
  readonly start: number
  readonly size: number
}

function mbrEntries(sector: Buffer): MbrEntry[] {
  return [0, 1, 2, 3].map((index) => {
    const at = 446 + index * entryBytes
    return {
      status: sector.readUInt8(at),
      type: sector.readUInt8(at + 4),
      start: sector.readUInt32LE(at + 8),
      size: sector.readUInt32LE(at + 12),
    }
  })
}

/** The boot sector of a file system ends in the same two bytes. */
function isMbr(sector: Buffer, entries: readonly MbrEntry[], diskSize: number): boolean {
  if (sector.readUInt16LE(510) !== 0xaa55) return false
  const used = entries.filter(({ type, size }) => type !== 0 && size !== 0)
  const isSane = entries.every(({ status }) => status === 0 || status === 0x80)
  return used.length > 0 && isSane && used.every(({ start }) => start * 512 < diskSize)
}

async function mbrPartitions(disk: DiskBytes, main: readonly MbrEntry[]): Promise<Partition[]> {
  const found: Partition[] = []
  const add = (number: number, { status, type, size }: MbrEntry, start: number): void => {
    if (type === 0 || size === 0 || extendedTypes.has(type)) return
    const shown = `0x${type.toString(16).padStart(2, '0')}`
    const isActive = status === 0x80
    found.push({
      number,
      type: shown,
      start: start * 512,
      size: size * 512,
      name: undefined,
      isActive,
    })
  }
  for (const [index, entry] of main.entries()) add(index + 1, entry, entry.start)
  const extended = main.find(({ type }) => extendedTypes.has(type))
  const seen = new Set<number>()
  // Each names its own one and where the next table is, counted from the first.
  for (let at = extended?.start; at !== undefined && !seen.has(at) && seen.size < mostPartitions;) {
    seen.add(at)
    const place = at
    const sector = await attempt(() => disk.read(place * 512, 512))
    if (!sector || sector.readUInt16LE(510) !== 0xaa55) break
    const [own, next] = mbrEntries(sector)
    if (own) add(4 + seen.size, own, place + own.start)
    const hasNext = next !== undefined && extendedTypes.has(next.type)
    at = hasNext ? (extended?.start ?? 0) + next.start : undefined
  }
  return found
}

/** `at`: the sector of its header, counted from the end where it is negative. */
async function readGpt(
  disk: DiskBytes,
  at: number,
  sectorBytes: number,
): Promise<Partition[] | undefined> {
  return attempt(async () => {
    const place = at < 0 ? Math.floor(disk.size / sectorBytes) + at : at
    const header = await disk.read(place * sectorBytes, 512)
    const size = header.readUInt32LE(12)
    if (header.toString('latin1', 0, 8) !== 'EFI PART' || size < 92 || size > 512) return undefined
    const said = header.readUInt32LE(16)
    header.writeUInt32LE(0, 16)
    if (crc32(header.subarray(0, size)) !== said) return undefined
    const start = Number(header.readBigUInt64LE(72)) * sectorBytes
    const count = Math.min(header.readUInt32LE(80), mostPartitions)
    const bytes = header.readUInt32LE(84)
    if (bytes < 128 || bytes > 4096) return undefined
    const table = await disk.read(start, count * bytes)
    return Array.from({ length: count }, (_, index) =>
      gptPartition(index + 1, table.subarray(index * bytes, (index + 1) * bytes), sectorBytes),
    ).filter((one) => one !== undefined)
  })
}

function gptPartition(number: number, entry: Buffer, sectorBytes: number): Partition | undefined {
  const guid = guidText(entry)
  const first = Number(entry.readBigUInt64LE(32))
  const last = Number(entry.readBigUInt64LE(40))
  if (guid === undefined || last < first) return undefined
  return {
    number,
    type: gptTypeName(guid),
    start: first * sectorBytes,
    size: (last - first + 1) * sectorBytes,
    name: plainText(Buffer.from(entry.toString('utf16le', 56, 128))),
    isActive: (entry.readUInt8(48) & 4) !== 0,
  }
}

/** The first three fields are little-endian. */
function guidText(bytes: Buffer): string | undefined {
  const ordered = Buffer.from(bytes.subarray(0, 16))
  ordered.subarray(0, 4).reverse()
  ordered.subarray(4, 6).reverse()
  ordered.subarray(6, 8).reverse()
  return uuidText(ordered)
}
