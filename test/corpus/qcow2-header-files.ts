import { accepted, reEncoded, refused, type CorpusFile } from './corpus-file.ts'
import { patched, type Workshop } from './workshop.ts'

type Change = (bytes: Buffer, workshop: Workshop) => void

const u32 =
  (at: number, value: number): Change =>
  (bytes) =>
    void bytes.writeUInt32BE(value, at)
const u64 =
  (at: number, value: bigint): Change =>
  (bytes) =>
    void bytes.writeBigUInt64BE(value, at)
/** Bits of the incompatible features. */
const incompatible = (...bits: readonly number[]): Change =>
  u64(
    72,
    bits.reduce((all, bit) => all | (1n << BigInt(bit)), 0n),
  )

/** The disk in a qcow2 of version 3 with something else in its header. */
const changed =
  (...changes: readonly Change[]) =>
  async (workshop: Workshop): Promise<Buffer> =>
    patched(await workshop.convert('qcow2'), (bytes) => {
      for (const change of changes) change(bytes, workshop)
    })

/** A name in the header's cluster that the header calls a backing file. */
const backing =
  (nameOf: (workshop: Workshop) => string): Change =>
  (bytes, workshop) => {
    const name = nameOf(workshop)
    bytes.writeBigUInt64BE(1024n, 8)
    bytes.writeUInt32BE(name.length, 16)
    bytes.write(name, 1024, 'latin1')
  }

/** One header extension and the end of them. */
const extension =
  (type: number, contents: (workshop: Workshop) => string): Change =>
  (bytes, workshop) => {
    const text = contents(workshop)
    bytes.writeUInt32BE(type, 112)
    bytes.writeUInt32BE(text.length, 116)
    bytes.write(text, 120, 'latin1')
    bytes.writeBigUInt64BE(0n, 120 + Math.ceil(text.length / 8) * 8)
  }
const dataFileName = extension(0x44_41_54_41, ({ canary }) => canary.path)

const qcow2 =
  (...options: readonly string[]) =>
  (workshop: Workshop) =>
    workshop.convert('qcow2', ...options)

const backingFile = ['IMAGE_UNSAFE', 'backing file'] as const
const dataFile = ['IMAGE_UNSAFE', 'external data file'] as const

export const qcow2Wholes: readonly CorpusFile[] = [
  refused('v1.qcow', 'qcow of version 1', ['FORMAT_UNSUPPORTED', 'version 1'], (shop) =>
    shop.create('qcow', '4M'),
  ),
  accepted('v2.qcow2', 'version 2', qcow2('-o', 'compat=0.10')),
  accepted('v3.qcow2', 'version 3', qcow2()),
  accepted('zlib.qcow2', 'clusters compressed by zlib', qcow2('-c')),
  accepted('zstd.qcow2', 'clusters compressed by zstd', qcow2('-c', '-o', 'compression_type=zstd')),
  accepted('cluster-512.qcow2', 'clusters of 512 bytes', qcow2('-o', 'cluster_size=512')),
  accepted('cluster-2m.qcow2', 'clusters of 2 MiB', qcow2('-o', 'cluster_size=2M')),
  accepted('out-of-order.qcow2', 'clusters in any order', qcow2('-W', '-m', '8')),
  reEncoded(
    'extended-l2.qcow2',
    'extended L2 entries (bit 4)',
    'qcow2',
    qcow2('-o', 'extended_l2=on'),
  ),
  reEncoded('dirty.qcow2', 'not closed cleanly (bit 0)', 'qcow2', changed(incompatible(0))),
  reEncoded('snapshot.qcow2', 'an internal snapshot', 'workshop', async (shop) =>
    shop.run('cp "$1" "$2"; qemu-img snapshot -c before "$2"', await shop.convert('qcow2')),
  ),
]

export const qcow2Headers: readonly CorpusFile[] = [
  refused('version-4.qcow2', 'version 4', ['FORMAT_UNSUPPORTED', 'version 4'], changed(u32(4, 4))),
  refused(
    'backing-host-file.qcow2',
    'a backing file that is there',
    backingFile,
    changed(backing(({ canary }) => canary.path)),
  ),
  refused(
    'backing-absent.qcow2',
    'a backing file that is not there',
    backingFile,
    changed(backing(() => '/no/such/file')),
  ),
  refused(
    'backing-json.qcow2',
    'a backing file by `json:`',
    backingFile,
    changed(
      backing(
        ({ canary }) =>
          `json:{"driver":"raw","file":{"driver":"file","filename":"${canary.path}"}}`,
      ),
    ),
  ),
  refused(
    'backing-nbd.qcow2',
    'a backing file by `nbd://`',
    backingFile,
    changed(backing(() => 'nbd://127.0.0.1:10809/disk')),
  ),
  refused(
    'backing-http.qcow2',
    'a backing file by `http://`',
    backingFile,
    changed(backing(() => 'http://169.254.169.254/latest')),
  ),
  refused(
    'data-file.qcow2',
    'an external data file (bit 2) and its name',
    dataFile,
    changed(incompatible(2), dataFileName),
  ),
  refused('data-file-bit.qcow2', 'bit 2 without a name', dataFile, changed(incompatible(2))),
  refused('data-file-name.qcow2', 'the name without bit 2', dataFile, changed(dataFileName)),
  refused(
    'extended-l2-lie.qcow2',
    'bit 4 on plain L2 entries',
    ['IMAGE_UNSAFE', 'the cluster of guest byte'],
    changed(incompatible(4)),
  ),
  refused(
    'unknown-bit.qcow2',
    'incompatible bit 5',
    ['FORMAT_UNSUPPORTED', 'unknown incompatible features (0x20)'],
    changed(incompatible(5)),
  ),
  refused(
    'corrupt.qcow2',
    'marked corrupt (bit 1)',
    ['IMAGE_UNSAFE', 'corrupt'],
    changed(incompatible(1)),
  ),
  refused(
    'crypt-aes.qcow2',
    'crypt_method 1 (AES)',
    ['FORMAT_UNSUPPORTED', 'encrypted (method 1)'],
    changed(u32(32, 1)),
  ),
  refused(
    'crypt-luks.qcow2',
    'crypt_method 2 without its extension: qemu-img 7.2 dies of it',
    ['FORMAT_UNSUPPORTED', 'encrypted (method 2)'],
    changed(u32(32, 2)),
  ),
  ...[8, 22, 31].map((bits) =>
    refused(
      `cluster-bits-${bits}.qcow2`,
      `cluster_bits ${bits}`,
      ['IMAGE_UNSAFE', `cluster_bits is ${bits}`],
      changed(u32(20, bits)),
    ),
  ),
  refused('size-0.qcow2', 'size 0', ['IMAGE_UNSAFE', 'virtual size'], changed(u64(24, 0n))),
  refused(
    'size-odd.qcow2',
    'a size that is no multiple of 512',
    ['IMAGE_UNSAFE', 'virtual size'],
    changed(u64(24, 4_194_303n)),
  ),
  refused(
    'size-2-63.qcow2',
    'size 2^63 - 1',
    ['IMAGE_UNSAFE', 'virtual size'],
    changed(u64(24, 2n ** 63n - 1n)),
  ),
  refused('size-1p.qcow2', 'an empty disk of 1 PiB', ['SIZE_EXCEEDED', 'maxVirtualSize'], (shop) =>
    shop.create('qcow2', '1P', '-o', 'cluster_size=2M'),
  ),
  refused(
    'refcount-order-7.qcow2',
    'refcount_order 7',
    ['IMAGE_UNSAFE', 'refcount_order is 7'],
    changed(u32(96, 7)),
  ),
  reEncoded(
    'snapshots-65536.qcow2',
    '65,536 snapshots: the table is not read',
    'workshop',
    changed(u32(60, 65_536)),
  ),
  refused(
    'snapshots-65537.qcow2',
    '65,537 snapshots, more than QEMU reads',
    ['IMAGE_UNSAFE', 'nb_snapshots is 65537'],
    changed(u32(60, 65_537)),
  ),
  reEncoded(
    'snapshot-extra-1g.qcow2',
    'a snapshot with 1 GiB of extra data: the table is not read',
    'workshop',
    async (shop) => {
      const taken = await shop.run(
        'cp "$1" "$2"; qemu-img snapshot -c before "$2"',
        await shop.convert('qcow2'),
      )
      const table = Number(taken.readBigUInt64BE(64))
      return patched(taken, (bytes) => void bytes.writeUInt32BE(2 ** 30, table + 36))
    },
  ),
  refused(
    'header-length-huge.qcow2',
    'header_length 2^32 - 8',
    ['IMAGE_UNSAFE', 'header_length is 4294967288'],
    changed(u32(100, 0xff_ff_ff_f8)),
  ),
  refused(
    'header-length-odd.qcow2',
    'header_length 105',
    ['IMAGE_UNSAFE', 'header_length is 105'],
    changed(u32(100, 105)),
  ),
  refused(
    'extension-huge.qcow2',
    'a header extension of 2 GiB',
    ['IMAGE_UNSAFE', 'header extension'],
    changed(u32(112, 0x12_34_56_78), u32(116, 0x7f_ff_ff_ff)),
  ),
  refused(
    'compression-no-bit.qcow2',
    'compression_type 1 without bit 3',
    ['IMAGE_UNSAFE', 'compression type 1'],
    changed((bytes) => void bytes.writeUInt8(1, 104)),
  ),
  refused(
    'compression-2.qcow2',
    'compression_type 2',
    ['FORMAT_UNSUPPORTED', 'compression type 2'],
    changed((bytes) => void bytes.writeUInt8(2, 104), incompatible(3)),
  ),
]
