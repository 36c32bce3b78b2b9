import { CodedError } from '../../core/errors.ts'
import { imageUnsafe } from './refusal.ts'
import type { ByteRange } from '../../core/registry.ts'
import { crc32c } from './crc32c.ts'
import { mappedRuns } from './mapped-runs.ts'
import type { DiskFile } from '../one-pass.ts'
import type { MappedRun } from '../run-queue.ts'

const kib = 1024
const mib = 1024 * kib
const headerOffsets = [64 * kib, 128 * kib] as const
const regionOffsets = [192 * kib, 256 * kib] as const
const headerBytes = 4 * kib
const tableBytes = 64 * kib
const mostEntries = 2047
const mostRegionBytes = 64 * mib

const region = {
  metadata: '8b7ca206-4790-4b9a-b8fe-575f050f886e',
  bat: '2dc27766-f623-4200-9d64-115e9bfd4a08',
} as const
const item = {
  fileParameters: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b',
  virtualSize: '2fa54224-cd1b-4876-b211-5dbed83bf4b8',
  logicalSector: '8141bf1d-a96f-4709-ba47-f233a8faab5f',
  physicalSector: 'cda348c7-445d-4471-9cc9-e9885251c556',
  page83: 'beca12ab-b2e6-4523-93ef-c309e000c746',
  parentLocator: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c',
} as const
const knownItems: readonly string[] = Object.values(item)
/** What a block of the table is. @see [MS-VHDX] §2.5.1.1 */
const state = { notPresent: 0, undefined: 1, zero: 2, unmapped: 3, present: 6 } as const
const emptyStates: readonly number[] = [
  state.notPresent,
  state.undefined,
  state.zero,
  state.unmapped,
]

/** The disk in a VHDX, whose tables lie up to some MiB into the file. */
export interface MappedVhdx {
  readonly virtualSize: number
  runs(): Generator<MappedRun, void>
}

/**
 * Reads all tables of a VHDX; header and region tables once, in the order of the file. Throws
 * IMAGE_UNSAFE for what needs another file, has a log to be replayed or breaks the format.
 * @see [MS-VHDX] §2
 */
export async function openVhdx(file: DiskFile): Promise<MappedVhdx> {
  await requireCleanLog(file)
  const regions = await readRegions(file)
  const metadata = need(regions, region.metadata, 'the metadata region')
  const bat = need(regions, region.bat, 'the block allocation table')
  const inOrder = [metadata, bat].toSorted((a, b) => a.start - b.start)
  const read = new Map<ByteRange, Buffer>()
  for (const range of inOrder) {
    const what = range === bat ? 'the block allocation table' : 'the metadata region'
    const bytes = await file.read(range.start, range.end - range.start, what)
    read.set(range, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
  }
  const facts = readMetadata(read.get(metadata) ?? Buffer.alloc(0))
  const table = read.get(bat) ?? Buffer.alloc(0)
  const { virtualSize, blockBytes, logicalSectorBytes } = facts
  const count = Math.ceil(virtualSize / blockBytes)
  const blocksPerBitmap = (2 ** 23 * logicalSectorBytes) / blockBytes
  const entryOf = (block: number): number => block + Math.floor(block / blocksPerBitmap)
  if ((entryOf(count - 1) + 1) * 8 > table.length) {
    throw unsafe(`its block allocation table is too small for ${count} blocks`)
  }
  return {
    virtualSize,
    runs: () =>
      mappedRuns({
        format: 'vhdx',
        count,
        blockBytes,
        virtualSize,
        tables: [{ start: 0, end: mib }, ...regions.values()],
        startOf(block) {
          const entry = table.readBigUInt64LE(entryOf(block) * 8)
          const found = Number(entry & 7n)
          if (emptyStates.includes(found)) return undefined
          if (found === state.present) return Number(entry >> 20n) * mib
          throw unsafe(`block ${block} has the state ${found}, which a disk of its own never has`)
        },
      }),
  }
}

async function requireCleanLog(file: DiskFile): Promise<void> {
  let current: { readonly sequence: bigint; readonly bytes: Buffer } | undefined
  for (const offset of headerOffsets) {
    const bytes = Buffer.from(await file.read(offset, headerBytes, 'a header'))
    if (bytes.toString('latin1', 0, 4) !== 'head' || !hasChecksum(bytes)) continue
    const sequence = bytes.readBigUInt64LE(8)
    if (!current || sequence > current.sequence) current = { sequence, bytes }
  }
  if (!current) throw unsafe('neither of its two headers is whole')
  const { bytes } = current
  const version = bytes.readUInt16LE(66)
  if (version !== 1) {
    throw new CodedError('FORMAT_UNSUPPORTED', `the vhdx has version ${version}; 1 is read`)
  }
  if (bytes.subarray(48, 64).some((byte) => byte !== 0)) {
    throw unsafe(
      'its log holds changes that were never written to their place (LogGuid); open and close it where it was made, or convert it: qemu-img convert -O qcow2',
    )
  }
}

async function readRegions(file: DiskFile): Promise<Map<string, ByteRange>> {
  let found: Buffer | undefined
  for (const offset of regionOffsets) {
    const bytes = Buffer.from(await file.read(offset, tableBytes, 'a region table'))
    if (bytes.toString('latin1', 0, 4) === 'regi' && hasChecksum(bytes)) found ??= bytes
  }
  if (!found) throw unsafe('neither of its two region tables is whole')
  const count = found.readUInt32LE(8)
  if (count > mostEntries) throw unsafe(`its region table has ${count} entries`)
  const regions = new Map<string, ByteRange>()
  for (let at = 16; at < 16 + count * 32; at += 32) {
    const id = guid(found, at)
    const start = Number(found.readBigUInt64LE(at + 16))
    const size = found.readUInt32LE(at + 24)
    const isKnown = id === region.metadata || id === region.bat
    if (!isKnown) {
      if ((found.readUInt32LE(at + 28) & 1) === 0) continue
      throw unsafe(`it needs a region ${id}, which nobody here knows`)
    }
    if (start < mib || start % mib !== 0 || size === 0 || size > mostRegionBytes) {
      throw unsafe(`a region of ${size} bytes is said to be at byte ${start}`)
    }
    if (regions.has(id)) throw unsafe(`it has two regions ${id}`)
    regions.set(id, { start, end: start + size })
  }
  return regions
}

function readMetadata(bytes: Buffer) {
  if (bytes.length < tableBytes || bytes.toString('latin1', 0, 8) !== 'metadata') {
    throw unsafe('its metadata table is missing')
  }
  const count = bytes.readUInt16LE(10)
  if (count > mostEntries) throw unsafe(`its metadata table has ${count} entries`)
  const items = new Map<string, Buffer>()
  for (let at = 32; at < 32 + count * 32; at += 32) {
    const id = guid(bytes, at)
    const start = bytes.readUInt32LE(at + 16)
    const size = bytes.readUInt32LE(at + 20)
    const isRequired = (bytes.readUInt32LE(at + 24) & 4) !== 0
    if (id === item.parentLocator) throw unsafe('it names a parent that it needs; merge it first')
    if (!knownItems.includes(id)) {
      if (isRequired) throw unsafe(`it needs a metadata item ${id}, which nobody here knows`)
      continue
    }
    if (start < tableBytes || start + size > bytes.length) {
      throw unsafe(`a metadata item lies outside of its region`)
    }
    items.set(id, bytes.subarray(start, start + size))
  }
  const parameters = needItem(items, item.fileParameters, 8)
  const blockBytes = parameters.readUInt32LE(0)
  if ((parameters.readUInt32LE(4) & 2) !== 0) {
    throw unsafe('it is a difference to a parent (HasParent); merge it first')
  }
  const isPower = (blockBytes & (blockBytes - 1)) === 0
  if (!isPower || blockBytes < mib || blockBytes > 256 * mib) {
    throw unsafe(`its block size is ${blockBytes}`)
  }
  const logicalSectorBytes = needItem(items, item.logicalSector, 4).readUInt32LE(0)
  if (logicalSectorBytes !== 512 && logicalSectorBytes !== 4096) {
    throw unsafe(`its logical sector has ${logicalSectorBytes} bytes`)
  }
  const size = needItem(items, item.virtualSize, 8).readBigUInt64LE(0)
  if (size === 0n || size > 64n * 2n ** 40n || size % BigInt(logicalSectorBytes) !== 0n) {
    throw unsafe(`its virtual size is ${size} bytes`)
  }
  return { virtualSize: Number(size), blockBytes, logicalSectorBytes }
}

function need(regions: ReadonlyMap<string, ByteRange>, id: string, what: string): ByteRange {
  const found = regions.get(id)
  if (!found) throw unsafe(`it lacks ${what}`)
  return found
}

function needItem(items: ReadonlyMap<string, Buffer>, id: string, size: number): Buffer {
  const found = items.get(id)
  if (!found || found.length < size) throw unsafe(`it lacks the metadata item ${id}`)
  return found
}

/** CRC-32C of the whole structure with the field itself as zeros. */
function hasChecksum(bytes: Buffer): boolean {
  const said = bytes.readUInt32LE(4)
  const copy = Buffer.from(bytes)
  copy.writeUInt32LE(0, 4)
  return crc32c(copy) === said
}

/** The first three parts are little-endian. */
function guid(bytes: Buffer, at: number): string {
  const hex = (start: number, end: number, isSwapped: boolean): string => {
    const part = bytes.subarray(at + start, at + end)
    return Buffer.from(isSwapped ? part.toReversed() : part).toString('hex')
  }
  return [
    hex(0, 4, true),
    hex(4, 6, true),
    hex(6, 8, true),
    hex(8, 10, false),
    hex(10, 16, false),
  ].join('-')
}

const unsafe = (reason: string) => imageUnsafe('vhdx', reason)
