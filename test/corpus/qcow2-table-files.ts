import { deflateRawSync } from 'node:zlib'
import { accepted, refused, type CorpusFile } from './corpus-file.ts'
import { patched, type Workshop } from './workshop.ts'

/** Where the tables of a qcow2 of ours lie, and what its L2 entries say. */
interface Tables {
  readonly l1: number
  readonly refcounts: number
  /** Byte of the L2 table that this L1 entry names. */
  l2(index: number): number
  /** Byte of the L2 entry that maps this guest cluster. */
  entry(cluster: number): number
}

function tablesOf(bytes: Buffer): Tables {
  const l1 = Number(bytes.readBigUInt64BE(40))
  const perTable = 2 ** (bytes.readUInt32BE(20) - 3)
  const l2 = (index: number): number =>
    Number(bytes.readBigUInt64BE(l1 + index * 8) & 0xff_ff_ff_ff_ff_fe_00n)
  return {
    l1,
    refcounts: Number(bytes.readBigUInt64BE(48)),
    l2,
    entry: (cluster) => l2(Math.floor(cluster / perTable)) + (cluster % perTable) * 8,
  }
}

const copied = 1n << 63n

const changed =
  (change: (bytes: Buffer, tables: Tables) => void, ...options: readonly string[]) =>
  async (shop: Workshop): Promise<Buffer> =>
    patched(await shop.convert('qcow2', ...options), (bytes) => change(bytes, tablesOf(bytes)))

/** Guest cluster 0 (64 KiB, with data) is mapped to that byte of the file. */
const mappedTo = (place: (bytes: Buffer, tables: Tables) => number) =>
  changed((bytes, tables) => {
    bytes.writeBigUInt64BE(copied | BigInt(place(bytes, tables)), tables.entry(0))
  })

const cutAt =
  (place: (bytes: Buffer, tables: Tables) => number, ...options: readonly string[]) =>
  async (shop: Workshop): Promise<Buffer> => {
    const bytes = await shop.convert('qcow2', ...options)
    return Buffer.from(bytes.subarray(0, place(bytes, tablesOf(bytes))))
  }

/** The first compressed cluster becomes 128 KiB of zeros, which take few bytes. */
async function bomb(shop: Workshop): Promise<Buffer> {
  return patched(await shop.convert('qcow2', '-c'), (bytes) => {
    const entry = bytes.readBigUInt64BE(tablesOf(bytes).entry(0))
    const start = Number(entry & ((1n << 54n) - 1n))
    bytes.set(deflateRawSync(Buffer.alloc(128 * 1024)), start)
  })
}

const smallClusters = ['-o', 'cluster_size=4k'] as const
const incomplete = (names: string) => ['IMAGE_INCOMPLETE', names] as const
const unsafe = (names: string) => ['IMAGE_UNSAFE', names] as const

export const qcow2Tables: readonly CorpusFile[] = [
  refused(
    'l1-huge.qcow2',
    'an L1 table of 2^32 - 1 entries',
    unsafe('L1 table has 4294967295 entries'),
    changed((bytes) => void bytes.writeUInt32BE(0xff_ff_ff_ff, 36)),
  ),
  refused(
    'l1-short.qcow2',
    'an L1 table too short for the size',
    unsafe('L1 table has 0 entries'),
    changed((bytes) => void bytes.writeUInt32BE(0, 36)),
  ),
  refused(
    'l1-past-end.qcow2',
    'an L1 table behind the end of the file',
    incomplete('L1 table'),
    changed((bytes) => void bytes.writeBigUInt64BE(2n ** 40n, 40)),
  ),
  refused(
    'l1-in-header.qcow2',
    'an L1 table in the header',
    unsafe('L1 table is at byte 0'),
    changed((bytes) => void bytes.writeBigUInt64BE(0n, 40)),
  ),
  refused(
    'l1-on-refcounts.qcow2',
    'an L1 table on the refcount table',
    unsafe('overlap'),
    changed((bytes, { refcounts }) => void bytes.writeBigUInt64BE(BigInt(refcounts), 40)),
  ),
  refused(
    'refcounts-past-end.qcow2',
    'a refcount table behind the end',
    incomplete('refcount table'),
    changed((bytes) => void bytes.writeBigUInt64BE(2n ** 40n, 48)),
  ),
  refused(
    'l2-past-end.qcow2',
    'an L2 table behind the end',
    incomplete('an L2 table'),
    changed((bytes, { l1 }) => void bytes.writeBigUInt64BE(copied | (2n ** 40n), l1)),
  ),
  refused(
    'l2-twice.qcow2',
    'two L1 entries with one L2 table',
    unsafe('two of its tables'),
    changed(
      (bytes, { l1 }) => {
        bytes.writeBigUInt64BE(bytes.readBigUInt64BE(l1), l1 + 8)
      },
      ...smallClusters,
    ),
  ),
  refused(
    'l2-on-l1.qcow2',
    'an L2 table on the L1 table',
    unsafe('two of its tables'),
    changed((bytes, { l1 }) => void bytes.writeBigUInt64BE(copied | BigInt(l1), l1)),
  ),
  refused(
    'l1-reserved.qcow2',
    'reserved bits in an L1 entry',
    unsafe('an L1 entry has reserved bits'),
    changed((bytes, { l1 }) => {
      bytes.writeBigUInt64BE(bytes.readBigUInt64BE(l1) | 2n, l1)
    }),
  ),
  refused(
    'cluster-past-end.qcow2',
    'data behind the end',
    incomplete('cluster of guest byte 0'),
    mappedTo(() => 2 ** 40),
  ),
  refused(
    'cluster-in-header.qcow2',
    'data mapped to the header',
    unsafe('guest byte 0 is mapped to the header'),
    mappedTo(() => 0),
  ),
  refused(
    'cluster-on-l1.qcow2',
    'data mapped to the L1 table',
    unsafe("image's own tables"),
    mappedTo((_, { l1 }) => l1),
  ),
  refused(
    'cluster-on-l2.qcow2',
    'data mapped to its own L2 table',
    unsafe("image's own tables"),
    mappedTo((_, { l2 }) => l2(0)),
  ),
  refused(
    'cluster-odd.qcow2',
    'data at a byte that is no multiple of 64 KiB',
    unsafe('not aligned'),
    mappedTo((bytes, { entry }) => Number(bytes.readBigUInt64BE(entry(1)) - copied) + 512),
  ),
  refused(
    'clusters-overlap.qcow2',
    'two guest clusters on one cluster of the file',
    unsafe('shares bytes of the file'),
    mappedTo((bytes, { entry }) => Number(bytes.readBigUInt64BE(entry(1)) - copied)),
  ),
  refused(
    'clusters-overlap-packed.qcow2',
    'a plain cluster on a compressed one',
    unsafe('shares bytes of the file'),
    changed((bytes, { entry }) => {
      const packed = Number(bytes.readBigUInt64BE(entry(0)) & ((1n << 54n) - 1n))
      const cluster = BigInt(packed - (packed % 65_536))
      bytes.writeBigUInt64BE(copied | cluster, entry(1))
    }, '-c'),
  ),
  accepted(
    'inflates-too-far.qcow2',
    'a compressed cluster that goes on behind its 64 KiB: QEMU stops there',
    bomb,
  ),
  refused(
    'inflates-too-far-dirty.qcow2',
    'the same, to be rewritten',
    unsafe('cannot be unpacked'),
    async (shop) => patched(await bomb(shop), (bytes) => void bytes.writeBigUInt64BE(1n, 72)),
  ),
  refused(
    'cut-header.qcow2',
    'cut off in the header',
    ['FORMAT_UNKNOWN', 'too short'],
    cutAt(() => 100),
  ),
  refused(
    'cut-extensions.qcow2',
    'cut off in the header extensions',
    incomplete('extensions need 1128 bytes'),
    async (shop) =>
      patched(await cutAt(() => 600)(shop), (bytes) => {
        bytes.writeUInt32BE(0x12_34_56_78, 112)
        bytes.writeUInt32BE(1000, 116)
      }),
  ),
  refused(
    'cut-refcounts.qcow2',
    'cut off in the refcount table',
    incomplete('table ends'),
    cutAt((_, { refcounts }) => refcounts + 100),
  ),
  refused(
    'cut-l1.qcow2',
    'cut off in the L1 table',
    incomplete('the L1 table ends'),
    cutAt((_, { l1 }) => l1 + 4),
  ),
  refused(
    'cut-l2.qcow2',
    'cut off in an L2 table',
    incomplete('an L2 table ends'),
    cutAt((_, { l2 }) => l2(0) + 8),
  ),
  refused(
    'cut-data.qcow2',
    'cut off in the middle',
    incomplete('cluster of guest byte'),
    cutAt((bytes) => bytes.length >> 1),
  ),
  refused(
    'cut-end.qcow2',
    'cut off by one sector',
    incomplete('cluster of guest byte'),
    cutAt((bytes) => bytes.length - 512),
  ),
  refused(
    'cut-packed.qcow2',
    'compressed clusters, cut off by one cluster',
    incomplete('cluster of guest byte'),
    cutAt((bytes) => bytes.length - 65_536, '-c'),
  ),
]
