import { crc32c } from '../../converter/formats/crc32c.ts'
import { reEncoded, refused, type CorpusFile } from './corpus-file.ts'
import { patched, type Workshop } from './workshop.ts'

const kib = 1024
const headers = [64 * kib, 128 * kib] as const
const regionTables = [192 * kib, 256 * kib] as const

const unsafe = (names: string) => ['IMAGE_UNSAFE', names] as const
const incomplete = (names: string) => ['IMAGE_INCOMPLETE', names] as const

const changed =
  (change: (bytes: Buffer) => void) =>
  async (shop: Workshop): Promise<Buffer> =>
    patched(await shop.convert('vhdx'), change)

/** The same change to both copies of a structure, each with its checksum. */
const inBoth = (
  places: readonly number[],
  size: number,
  change: (structure: Buffer) => void,
): ReturnType<typeof changed> =>
  changed((bytes) => {
    for (const at of places) {
      const structure = bytes.subarray(at, at + size)
      change(structure)
      structure.writeUInt32LE(0, 4)
      structure.writeUInt32LE(crc32c(structure), 4)
    }
  })
const inHeaders = (change: (header: Buffer) => void) => inBoth(headers, 4 * kib, change)
const inRegions = (change: (table: Buffer) => void) => inBoth(regionTables, 64 * kib, change)

/** Byte of the region whose id begins so. */
function regionAt(bytes: Buffer, id: string): number {
  const at = bytes.indexOf(Buffer.from(id, 'hex'), regionTables[0])
  return Number(bytes.readBigUInt64LE(at + 16))
}
const metadataId = '06a27c8b9047'
const batId = '6677c22d23f6'

const inMetadata = (change: (metadata: Buffer) => void) =>
  changed((bytes) => change(bytes.subarray(regionAt(bytes, metadataId))))
/** The entry of the metadata table with that item; its value. */
const entryOf = (metadata: Buffer, id: string): number =>
  metadata.indexOf(Buffer.from(id, 'hex'), 32)
const valueOf = (metadata: Buffer, id: string): number =>
  metadata.readUInt32LE(entryOf(metadata, id) + 16)
const fileParameters = '3767a1ca36fa'
const virtualSize = '2442a52f1bcd'
const parentLocator = '2d5fd3a80bb34d45abf7d3d84834ab0c'

const inTable = (change: (table: Buffer) => void) =>
  changed((bytes) => change(bytes.subarray(regionAt(bytes, batId))))

export const vhdxFiles: readonly CorpusFile[] = [
  reEncoded('dynamic.vhdx', 'dynamic', 'vhdx', (shop) => shop.convert('vhdx')),
  reEncoded('fixed.vhdx', 'fixed', 'vhdx', (shop) => shop.convert('vhdx', '-o', 'subformat=fixed')),
  refused(
    'parent.vhdx',
    'a parent locator',
    unsafe('names a parent'),
    inMetadata((metadata) => {
      const count = metadata.readUInt16LE(10)
      metadata.writeUInt16LE(count + 1, 10)
      metadata.write(parentLocator, 32 + count * 32, 'hex')
      metadata.writeUInt32LE(64 * kib, 32 + count * 32 + 16)
      metadata.writeUInt32LE(20, 32 + count * 32 + 20)
    }),
  ),
  refused(
    'has-parent.vhdx',
    'the bit HasParent',
    unsafe('HasParent'),
    inMetadata((metadata) => {
      metadata.writeUInt32LE(2, valueOf(metadata, fileParameters) + 4)
    }),
  ),
  refused(
    'dirty-log.vhdx',
    'a log that was not replayed',
    unsafe('LogGuid'),
    inHeaders((header) => void header.fill(0x11, 48, 64)),
  ),
  refused(
    'version-2.vhdx',
    'version 2',
    ['FORMAT_UNSUPPORTED', 'version 2'],
    inHeaders((header) => void header.writeUInt16LE(2, 66)),
  ),
  refused(
    'headers.vhdx',
    'two headers with wrong checksums',
    unsafe('neither of its two headers'),
    changed((bytes) => headers.forEach((at) => void bytes.writeUInt8(1, at + 4000))),
  ),
  refused(
    'region-tables.vhdx',
    'two region tables with wrong checksums',
    unsafe('neither of its two region tables'),
    changed((bytes) => regionTables.forEach((at) => void bytes.writeUInt8(1, at + 60_000))),
  ),
  refused(
    'regions-2048.vhdx',
    '2,048 regions',
    unsafe('region table has 2048 entries'),
    inRegions((table) => void table.writeUInt32LE(2048, 8)),
  ),
  refused(
    'region-unknown.vhdx',
    'a region that is required and unknown',
    unsafe('needs a region'),
    inRegions((table) => {
      table.writeUInt32LE(3, 8)
      table.fill(0x22, 16 + 64, 16 + 80)
      table.writeUInt32LE(1, 16 + 64 + 28)
    }),
  ),
  refused(
    'metadata-past-end.vhdx',
    'a metadata region behind the end',
    incomplete('the metadata region'),
    inRegions((table) => {
      const at = table.indexOf(Buffer.from(metadataId, 'hex'))
      table.writeBigUInt64LE(2n ** 40n, at + 16)
    }),
  ),
  refused(
    'metadata-in-header.vhdx',
    'a metadata region in the header',
    unsafe('said to be at byte 0'),
    inRegions((table) => {
      const at = table.indexOf(Buffer.from(metadataId, 'hex'))
      table.writeBigUInt64LE(0n, at + 16)
    }),
  ),
  refused(
    'metadata-2048.vhdx',
    '2,048 metadata items',
    unsafe('metadata table has 2048 entries'),
    inMetadata((metadata) => void metadata.writeUInt16LE(2048, 10)),
  ),
  refused(
    'item-outside.vhdx',
    'a metadata item outside of its region',
    unsafe('outside of its region'),
    inMetadata((metadata) => {
      metadata.writeUInt32LE(0xff_ff_ff_ff, entryOf(metadata, virtualSize) + 16)
    }),
  ),
  refused(
    'block-size-0.vhdx',
    'blocks of 0 bytes',
    unsafe('block size is 0'),
    inMetadata((metadata) => {
      metadata.writeUInt32LE(0, valueOf(metadata, fileParameters))
    }),
  ),
  refused(
    'size-0.vhdx',
    'size 0',
    unsafe('virtual size is 0'),
    inMetadata((metadata) => {
      metadata.writeBigUInt64LE(0n, valueOf(metadata, virtualSize))
    }),
  ),
  refused(
    'size-2-63.vhdx',
    'size 2^63',
    unsafe('virtual size is 9223372036854775808'),
    inMetadata((metadata) => {
      metadata.writeBigUInt64LE(2n ** 63n, valueOf(metadata, virtualSize))
    }),
  ),
  refused(
    'size-large.vhdx',
    'more than the server allows',
    ['SIZE_EXCEEDED', 'maxVirtualSize'],
    inMetadata((metadata) => {
      metadata.writeBigUInt64LE(2n ** 32n, valueOf(metadata, virtualSize))
    }),
  ),
  refused(
    'block-partial.vhdx',
    'a block in the state of a differencing disk',
    unsafe('block 0 has the state 7'),
    inTable((table) => {
      table.writeBigUInt64LE(table.readBigUInt64LE(0) | 7n, 0)
    }),
  ),
  refused(
    'block-past-end.vhdx',
    'a block behind the end',
    incomplete('guest byte 0'),
    inTable((table) => {
      table.writeBigUInt64LE(((2n ** 20n) << 20n) | 6n, 0)
    }),
  ),
  refused(
    'block-in-header.vhdx',
    'a block in the header',
    unsafe('where the file has its tables'),
    inTable((table) => {
      table.writeBigUInt64LE(6n, 0)
    }),
  ),
  refused('cut.vhdx', 'cut off in the data', incomplete('guest byte'), async (shop) => {
    const bytes = await shop.convert('vhdx')
    return bytes.subarray(0, regionAt(bytes, metadataId) + 2 * 1024 * kib)
  }),
  refused('cut-tables.vhdx', 'cut off in the tables', incomplete('region'), async (shop) =>
    (await shop.convert('vhdx')).subarray(0, 200 * kib),
  ),
]
