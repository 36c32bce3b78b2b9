import { reEncoded, refused, type CorpusFile } from './corpus-file.ts'
import { mib, patched, type Workshop } from './workshop.ts'

type Change = (bytes: Buffer) => void

const unsafe = (names: string) => ['IMAGE_UNSAFE', names] as const
const unsupported = (names: string) => ['FORMAT_UNSUPPORTED', names] as const
const incomplete = (names: string) => ['IMAGE_INCOMPLETE', names] as const

const vdi =
  (change: Change, ...options: readonly string[]) =>
  async (shop: Workshop): Promise<Buffer> =>
    patched(await shop.convert('vdi', ...options), change)
const le32 =
  (at: number, value: number): Change =>
  (bytes) =>
    void bytes.writeUInt32LE(value, at)

/** The entry of that block in the map. */
const mapEntry = (bytes: Buffer, block: number): number => bytes.readUInt32LE(0x154) + block * 4

export const vdiFiles: readonly CorpusFile[] = [
  reEncoded('dynamic.vdi', 'dynamic', 'vdi', (shop) => shop.convert('vdi')),
  reEncoded('static.vdi', 'static', 'vdi', (shop) => shop.convert('vdi', '-o', 'static=on')),
  refused('type-4.vdi', 'a differencing disk', unsafe('type is 4'), vdi(le32(0x4c, 4))),
  refused('type-3.vdi', 'an undo disk', unsafe('type is 3'), vdi(le32(0x4c, 3))),
  refused('parent.vdi', 'uuid_parent', unsafe('uuid_parent'), vdi(le32(0x1b8, 1))),
  refused('link.vdi', 'uuid_link', unsafe('uuid_link'), vdi(le32(0x1a8, 1))),
  refused(
    'version.vdi',
    'version 2.0',
    unsupported('version is 0x20000'),
    vdi(le32(0x44, 0x2_00_00)),
  ),
  refused(
    'map-in-header.vdi',
    'a block map in the header',
    unsafe('offset_bmap is 0'),
    vdi(le32(0x154, 0)),
  ),
  refused(
    'map-past-end.vdi',
    'a block map behind the end',
    incomplete('the block map'),
    vdi(le32(0x154, 0x7f_ff_fe_00)),
  ),
  refused(
    'block-size-0.vdi',
    'blocks of 0 bytes',
    unsupported('block_size is 0'),
    vdi(le32(0x178, 0)),
  ),
  refused(
    'block-size-2g.vdi',
    'blocks of 2 GiB',
    unsupported('block_size is 2147483648'),
    vdi(le32(0x178, 2 ** 31)),
  ),
  refused(
    'size-0.vdi',
    'size 0',
    unsafe('disk_size is 0'),
    vdi((bytes) => void bytes.fill(0, 0x170, 0x178)),
  ),
  refused(
    'blocks-short.vdi',
    'fewer blocks than the size needs',
    unsafe('it has 1 blocks'),
    vdi(le32(0x180, 1)),
  ),
  refused(
    'block-past-end.vdi',
    'a block behind the end',
    incomplete('guest byte 0'),
    vdi((bytes) => void bytes.writeUInt32LE(2 ** 20, mapEntry(bytes, 0))),
  ),
  refused(
    'blocks-overlap.vdi',
    'two blocks that are one',
    unsafe('shares bytes'),
    vdi(
      (bytes) =>
        void bytes.writeUInt32LE(bytes.readUInt32LE(mapEntry(bytes, 1)), mapEntry(bytes, 0)),
    ),
  ),
  refused(
    'data-on-map.vdi',
    'data where the map is',
    unsafe('where the file has its tables'),
    vdi((bytes) => void bytes.writeUInt32LE(bytes.readUInt32LE(0x154), 0x158)),
  ),
  refused('cut.vdi', 'cut off by one sector', incomplete('guest byte'), async (shop) =>
    (await shop.convert('vdi')).subarray(0, -512),
  ),
]

const dynamicVhd = (shop: Workshop): Promise<Buffer> => shop.convert('vpc', '-o', 'force_size=on')
const fixedVhd = (shop: Workshop): Promise<Buffer> =>
  shop.convert('vpc', '-o', 'subformat=fixed,force_size=on')

/** Of the footer (checksum at 64) or the dynamic header (at 36). */
function setChecksum(bytes: Buffer, at: number): void {
  bytes.writeUInt32BE(0, at)
  const sum = bytes.reduce((all, byte) => all + byte, 0)
  bytes.writeUInt32BE(~sum >>> 0, at)
}

const vhd =
  (change: Change) =>
  async (shop: Workshop): Promise<Buffer> =>
    patched(await dynamicVhd(shop), (bytes) => {
      change(bytes)
      setChecksum(bytes.subarray(0, 512), 64)
      setChecksum(bytes.subarray(512, 1536), 36)
    })
const be32 =
  (at: number, value: number): Change =>
  (bytes) =>
    void bytes.writeUInt32BE(value, at)

const fixedFooter =
  (change: Change) =>
  async (shop: Workshop): Promise<Buffer> =>
    patched(await fixedVhd(shop), (bytes) => {
      const footer = bytes.subarray(-512)
      change(footer)
      setChecksum(footer, 64)
    })

const tableAt = (bytes: Buffer): number => Number(bytes.readBigUInt64BE(512 + 16))

export const vhdFiles: readonly CorpusFile[] = [
  reEncoded('dynamic.vhd', 'dynamic', 'vpc', dynamicVhd),
  reEncoded('fixed.vhd', 'fixed', 'vpc', fixedVhd),
  reEncoded('chs.vhd', 'of a writer whose size follows from the geometry', 'vpc', (shop) =>
    shop.convert('vpc'),
  ),
  refused('differencing.vhd', 'a differencing disk', unsafe('type 4'), vhd(be32(60, 4))),
  refused('parent.vhd', 'parent_uuid', unsafe('parent_uuid'), vhd(be32(512 + 40, 1))),
  refused(
    'type-2.vhd',
    'a fixed disk that begins with its footer',
    unsafe('its type is 2'),
    vhd(be32(60, 2)),
  ),
  refused(
    'checksum.vhd',
    'a footer with a wrong checksum',
    unsafe('checksum of its footer'),
    async (shop) => patched(await dynamicVhd(shop), be32(48, 1)),
  ),
  refused(
    'header-checksum.vhd',
    'a dynamic header with a wrong checksum',
    unsafe('checksum of the dynamic header'),
    async (shop) => patched(await dynamicVhd(shop), be32(512 + 32, mib)),
  ),
  refused(
    'size-odd.vhd',
    'a size that is no multiple of 512',
    unsafe('its size is 8199 bytes'),
    vhd((bytes) => void bytes.writeBigUInt64BE(8199n, 48)),
  ),
  refused(
    'block-size-0.vhd',
    'blocks of 0 bytes',
    unsafe('block_size is 0'),
    vhd(be32(512 + 32, 0)),
  ),
  refused(
    'entries-short.vhd',
    'fewer table entries than blocks',
    unsafe('max_table_entries is 1'),
    vhd(be32(512 + 28, 1)),
  ),
  refused(
    'table-past-end.vhd',
    'a table behind the end',
    incomplete('block allocation table'),
    vhd(be32(512 + 20, 2 ** 30)),
  ),
  refused(
    'table-in-header.vhd',
    'a table in the header',
    unsafe('shares bytes'),
    vhd(be32(512 + 20, 512)),
  ),
  refused(
    'block-past-end.vhd',
    'a block behind the end',
    incomplete('guest byte 0'),
    vhd((bytes) => void bytes.writeUInt32BE(2 ** 30, tableAt(bytes))),
  ),
  refused(
    'blocks-overlap.vhd',
    'two blocks that are one',
    unsafe('shares bytes'),
    vhd(
      (bytes) => void bytes.writeUInt32BE(bytes.readUInt32BE(tableAt(bytes) + 4), tableAt(bytes)),
    ),
  ),
  refused(
    'footer-only.vhd',
    'a dynamic footer and nothing else',
    incomplete('dynamic header'),
    async (shop) => (await dynamicVhd(shop)).subarray(0, 512),
  ),
  refused(
    'fixed-footer-only.vhd',
    'a fixed footer and nothing else',
    unsafe('its type is 2'),
    async (shop) => (await fixedVhd(shop)).subarray(-512),
  ),
  refused('cut.vhd', 'cut off in the middle', incomplete('guest byte'), async (shop) => {
    const bytes = await dynamicVhd(shop)
    return bytes.subarray(0, bytes.length >> 1)
  }),
  refused(
    'fixed-short.vhd',
    'a fixed disk shorter than its footer says',
    incomplete('footer says 4194304 bytes'),
    async (shop) => {
      const bytes = await fixedVhd(shop)
      return Buffer.concat([bytes.subarray(0, mib), bytes.subarray(-512)])
    },
  ),
  refused(
    'fixed-long.vhd',
    'a fixed disk longer than its footer says',
    unsafe('its footer says 1048576 bytes'),
    fixedFooter((footer) => void footer.writeBigUInt64BE(BigInt(mib), 48)),
  ),
  refused(
    'fixed-type-4.vhd',
    'a differencing footer behind raw data',
    unsafe('its footer has the type 4'),
    fixedFooter(be32(60, 4)),
  ),
]
