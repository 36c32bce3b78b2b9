import { tarOf, type TarContents } from '../fixtures/tars.ts'
import { accepted, reEncoded, refused, type CorpusFile } from './corpus-file.ts'
import { mib, type Workshop } from './workshop.ts'

/** More than the server of the test allows. */
const bombBytes = 256 * mib

const packed =
  (command: string) =>
  (shop: Workshop): Promise<Buffer> =>
    shop.run(`${command} <"$1" >"$2"`, shop.disk)

/** Zeros without end, as far as a server reads them. */
const bomb =
  (command: string) =>
  (shop: Workshop): Promise<Buffer> =>
    shop.run(`head -c ${bombBytes} /dev/zero | ${command} >"$2"`, Buffer.alloc(0))

const tooLarge = ['SIZE_EXCEEDED', 'maxVirtualSize'] as const

/** A frame whose window is 2 GiB, of one block of one repeated byte. @see RFC 8878 §3.1.1 */
const wideFrame = (): Buffer => {
  const windowOf2GiB = 21 << 3
  const lastRepeatedBlock = (1000 << 3) | (1 << 1) | 1
  const block = Buffer.alloc(4)
  block.writeUIntLE(lastRepeatedBlock, 0, 3)
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, windowOf2GiB]), block])
}

const description = { name: 'box.ovf', contents: '<Envelope/>' } as const
const appliance =
  (entriesOf: (shop: Workshop) => Promise<readonly TarContents[]>) =>
  async (shop: Workshop): Promise<Buffer> =>
    tarOf([description, ...(await entriesOf(shop))])
const stream = (shop: Workshop): Promise<Buffer> =>
  shop.convert('vmdk', '-o', 'subformat=streamOptimized')

export const packedFiles: readonly CorpusFile[] = [
  reEncoded('disk.raw.gz', 'a raw disk in gzip', 'workshop', packed('gzip -c')),
  reEncoded('disk.raw.xz', 'in xz', 'workshop', packed('xz -c')),
  reEncoded('disk.raw.zst', 'in zstd', 'workshop', packed('zstd -qc')),
  reEncoded('disk.raw.bz2', 'in bzip2', 'workshop', packed('bzip2 -c')),
  reEncoded('disk.raw.lz4', 'in lz4', 'workshop', packed('lz4 -qc')),
  accepted('packed.qcow2.gz.xz', 'a qcow2 packed twice', async (shop) =>
    shop.run('gzip -c <"$1" | xz -c >"$2"', await shop.convert('qcow2')),
  ),
  refused(
    'nested.raw.gz.xz.zst',
    'packed three times',
    ['FORMAT_UNSUPPORTED', 'more than 2 times'],
    (shop) => shop.run('gzip -c <"$1" | xz -c | zstd -qc >"$2"', shop.disk),
  ),
  refused('bomb.gz', 'zeros in gzip, more than the server allows', tooLarge, bomb('gzip -1')),
  refused('bomb.xz', 'in xz', tooLarge, bomb('xz -0')),
  refused('bomb.zst', 'in zstd', tooLarge, bomb('zstd -q')),
  refused('bomb.bz2', 'in bzip2', tooLarge, bomb('bzip2 -1')),
  refused('bomb.gz.gz', 'in gzip twice', tooLarge, bomb('gzip -1 | gzip -1')),
  refused('window.zst', 'zstd that needs 2 GiB of memory', ['SIZE_EXCEEDED', 'window'], wideFrame),
  refused('dictionary.xz', 'xz that needs 1.5 GiB of memory', ['SIZE_EXCEEDED', 'memory'], (shop) =>
    shop.run('xz -c --lzma2=preset=0,dict=1536MiB <"$1" >"$2"', shop.disk),
  ),
  reEncoded(
    'box.ova',
    'an OVA with one disk',
    'workshop',
    appliance(async (shop) => [{ name: 'box.vmdk', contents: await stream(shop) }]),
  ),
  refused(
    'two-disks.ova',
    'an OVA with two disks',
    ['FORMAT_UNSUPPORTED', 'more than one disk'],
    appliance(async (shop) => [
      { name: 'one.vmdk', contents: await stream(shop) },
      { name: 'two.vmdk', contents: await stream(shop) },
    ]),
  ),
  refused(
    'no-disk.ova',
    'an OVA without a disk',
    ['FORMAT_UNSUPPORTED', 'no disk'],
    appliance(async () => []),
  ),
  refused(
    'link.ova',
    'an OVA whose disk is a symlink to a file of the host',
    ['FORMAT_UNSUPPORTED', 'no disk'],
    appliance(async ({ canary }) => [{ name: 'box.vmdk', type: 'symlink', linkname: canary.path }]),
  ),
  refused(
    'hard-link.ova',
    'an OVA whose disk is a hard link to a file of the host',
    ['FORMAT_UNSUPPORTED', 'no disk'],
    appliance(async ({ canary }) => [{ name: 'box.vmdk', type: 'link', linkname: canary.path }]),
  ),
  refused(
    'reference.ova',
    'an OVA whose description names a file of the host as its disk',
    ['FORMAT_UNSUPPORTED', 'no disk'],
    async ({ canary }) =>
      tarOf([
        {
          name: 'box.ovf',
          contents: `<Envelope><References><File href="file://${canary.path}"/></References></Envelope>`,
        },
      ]),
  ),
  refused(
    'descriptor.ova',
    'an OVA whose disk is a text descriptor that names a file of the host',
    ['FORMAT_UNSUPPORTED', 'VMDK descriptor'],
    appliance(async ({ canary }) => [
      {
        name: 'box.vmdk',
        contents: `# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 8192 FLAT "${canary.path}" 0\n`,
      },
    ]),
  ),
  refused(
    'manifest.ova',
    'an OVA whose manifest has another sum of its disk',
    ['CHECKSUM_MISMATCH', 'sha256'],
    appliance(async (shop) => [
      { name: 'box.mf', contents: `SHA256(box.vmdk)= ${'0'.repeat(64)}\n` },
      { name: 'box.vmdk', contents: await stream(shop) },
    ]),
  ),
  refused(
    'cut.ova',
    'an OVA that ends in its disk',
    ['IMAGE_INCOMPLETE', 'OVA is cut off'],
    async (shop) => {
      const whole = await tarOf([description, { name: 'box.vmdk', contents: await stream(shop) }])
      return whole.subarray(0, whole.length >> 1)
    },
  ),
]
