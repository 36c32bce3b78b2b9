import { reEncoded, refused, type CorpusFile } from './corpus-file.ts'
import { streamVmdk } from './vmdk-footer-files.ts'
import { patched, type Workshop } from './workshop.ts'

const sector = 512
/** In what qemu-img writes for disks of that size. */
const descriptorAt = sector

type Change = (bytes: Buffer, workshop: Workshop) => void

const changed =
  (change: Change) =>
  async (shop: Workshop): Promise<Buffer> =>
    patched(await shop.convert('vmdk'), (bytes) => change(bytes, shop))

/** Other lines in the descriptor inside of a sparse VMDK. */
const described = (edit: (text: string, workshop: Workshop) => string) =>
  changed((bytes, shop) => {
    const end = bytes.indexOf(0, descriptorAt)
    const text = edit(bytes.toString('latin1', descriptorAt, end), shop)
    bytes.fill(0, descriptorAt, end)
    bytes.write(text, descriptorAt, 'latin1')
  })

const extentLine = /^RW .*$/m

/** A descriptor that is a file of its own, padded so that it does not look short. */
const descriptorFile =
  (createType: string, extentOf: (workshop: Workshop) => string, start = '') =>
  (shop: Workshop): Buffer => {
    const lines = [
      '# Disk DescriptorFile',
      'version=1',
      'CID=fffffffe',
      'parentCID=ffffffff',
      `createType="${createType}"`,
      extentOf(shop),
      'ddb.adapterType = "ide"',
    ]
    const text = Buffer.from(`${start}${lines.join('\n')}\n`)
    return Buffer.concat([text, Buffer.alloc(2048)])
  }

const textFile = (createType: string) =>
  ['FORMAT_UNSUPPORTED', `VMDK descriptor (createType "${createType}")`] as const
const unsafe = (names: string) => ['IMAGE_UNSAFE', names] as const
const incomplete = (names: string) => ['IMAGE_INCOMPLETE', names] as const

const directoryAt = (bytes: Buffer): number => Number(bytes.readBigUInt64LE(56)) * sector
const tableAt = (bytes: Buffer): number => bytes.readUInt32LE(directoryAt(bytes)) * sector

/** Grain 0 (64 KiB, with data) lies at that sector. */
const grainAt = (place: (bytes: Buffer) => number) =>
  changed((bytes) => void bytes.writeUInt32LE(place(bytes), tableAt(bytes)))

export const vmdkWholes: readonly CorpusFile[] = [
  reEncoded('sparse.vmdk', 'monolithicSparse', 'vmdk', (shop) => shop.convert('vmdk')),
  reEncoded('stream.vmdk', 'streamOptimized', 'vmdk', (shop) =>
    shop.convert('vmdk', '-o', 'subformat=streamOptimized'),
  ),
  reEncoded('footer.vmdk', 'streamOptimized with its directory at the end', 'vmdk', ({ disk }) =>
    streamVmdk(disk),
  ),
]

export const vmdkFiles: readonly CorpusFile[] = [
  refused(
    'text-flat.vmdk',
    'a text descriptor that names a file of the host',
    textFile('monolithicFlat'),
    descriptorFile('monolithicFlat', ({ canary }) => `RW 8192 FLAT "${canary.path}" 0`),
  ),
  refused(
    'text-up.vmdk',
    'a text descriptor that names `../`',
    textFile('monolithicFlat'),
    descriptorFile('monolithicFlat', () => 'RW 8192 FLAT "../host-file" 0'),
  ),
  refused(
    'text-device.vmdk',
    'a text descriptor that names a device',
    textFile('fullDevice'),
    descriptorFile('fullDevice', () => 'RW 8192 FLAT "/dev/sda" 0'),
  ),
  refused(
    'text-comments.vmdk',
    'the same behind comments and empty lines',
    textFile('monolithicFlat'),
    descriptorFile(
      'monolithicFlat',
      ({ canary }) => `RW 8192 FLAT "${canary.path}" 0`,
      '\n#\n\n#x\n',
    ),
  ),
  refused(
    'inner-flat.vmdk',
    'a sparse VMDK whose descriptor says monolithicFlat and names a file of the host',
    unsafe('createType is "monolithicFlat"'),
    described((text, { canary }) =>
      text
        .replace('monolithicSparse', 'monolithicFlat')
        .replace(extentLine, `RW 8192 FLAT "${canary.path}" 0`),
    ),
  ),
  refused(
    'inner-path.vmdk',
    'its extent is a file of the host',
    unsafe('names 1 extents'),
    described((text, { canary }) => text.replace(extentLine, `RW 8192 SPARSE "${canary.path}"`)),
  ),
  refused(
    'inner-up.vmdk',
    'its extent is `../`',
    unsafe('names 1 extents'),
    described((text) => text.replace(extentLine, 'RW 8192 SPARSE "../host-file"')),
  ),
  refused(
    'inner-device.vmdk',
    'its extent is a device',
    unsafe('names 1 extents'),
    described((text) => text.replace(extentLine, 'RW 8192 FLAT "/dev/sda" 0')),
  ),
  refused(
    'two-extents.vmdk',
    'two extents',
    unsafe('names 2 extents'),
    described((text) => text.replace(extentLine, '$&\n$&')),
  ),
  refused(
    'parent-hint.vmdk',
    'parentFileNameHint',
    unsafe('parentFileNameHint'),
    described((text, { canary }) =>
      text.replace(extentLine, `parentFileNameHint="${canary.path}"\n$&`),
    ),
  ),
  refused(
    'parent-cid.vmdk',
    'parentCID of another disk',
    unsafe('parentCID is 12345678'),
    described((text) => text.replace('parentCID=ffffffff', 'parentCID=12345678')),
  ),
  refused(
    'create-type-long.vmdk',
    'a createType of 100 characters',
    unsafe('createType is "aaaa'),
    described((text) => text.replace('monolithicSparse', 'a'.repeat(100))),
  ),
  refused(
    'descriptor-line.vmdk',
    'a line that no descriptor has',
    unsafe('has a line "hello there"'),
    described((text) => `${text}hello there\n`),
  ),
  refused(
    'descriptor-sector-2.vmdk',
    'a descriptor that does not begin at sector 1',
    unsafe('descriptorOffset is sector 2'),
    changed((bytes) => void bytes.writeBigUInt64LE(2n, 28)),
  ),
  refused(
    'descriptor-huge.vmdk',
    'a descriptor of 2^32 - 1 sectors',
    unsafe('descriptorSize is'),
    changed((bytes) => void bytes.writeBigUInt64LE(0xff_ff_ff_ffn, 36)),
  ),
  refused(
    'version-4.vmdk',
    'version 4',
    ['FORMAT_UNSUPPORTED', 'version is 4'],
    changed((bytes) => void bytes.writeUInt32LE(4, 4)),
  ),
  refused(
    'newlines.vmdk',
    'line ends changed on the way',
    unsafe('line ends'),
    changed((bytes) => void bytes.writeUInt8(0x20, 73)),
  ),
  refused(
    'capacity-0.vmdk',
    'capacity 0',
    unsafe('capacity is 0'),
    changed((bytes) => void bytes.writeBigUInt64LE(0n, 12)),
  ),
  refused(
    'capacity-huge.vmdk',
    'capacity 2^63',
    unsafe('capacity'),
    changed((bytes) => void bytes.writeBigUInt64LE(2n ** 63n, 12)),
  ),
  refused(
    'grain-0.vmdk',
    'grains of 0 sectors',
    unsafe('grainSize is 0'),
    changed((bytes) => void bytes.writeBigUInt64LE(0n, 20)),
  ),
  refused(
    'tables-huge.vmdk',
    'grain tables of 2^31 entries',
    unsafe('numGTEsPerGT is 2147483648'),
    changed((bytes) => void bytes.writeUInt32LE(2 ** 31, 44)),
  ),
  refused(
    'directory-past-end.vmdk',
    'a grain directory behind the end',
    incomplete('grain directory'),
    changed((bytes) => void bytes.writeBigUInt64LE(2n ** 30n, 56)),
  ),
  refused(
    'directory-at-end.vmdk',
    'gdOffset -1 without markers',
    unsafe('gdOffset'),
    changed((bytes) => void bytes.writeBigUInt64LE(2n ** 64n - 1n, 56)),
  ),
  refused(
    'table-loop.vmdk',
    'two grain tables that are one',
    unsafe('a grain table is used twice'),
    async (shop) =>
      patched(await shop.create('vmdk', '64M'), (bytes) => {
        const at = directoryAt(bytes)
        bytes.writeUInt32LE(bytes.readUInt32LE(at), at + 4)
      }),
  ),
  refused(
    'table-is-directory.vmdk',
    'a grain table that is its directory',
    unsafe('shares bytes'),
    changed((bytes) => {
      const at = directoryAt(bytes)
      bytes.writeUInt32LE(at / sector, at)
    }),
  ),
  refused(
    'grain-is-descriptor.vmdk',
    'a grain on the descriptor',
    unsafe('shares bytes'),
    grainAt(() => 1),
  ),
  refused(
    'grain-is-table.vmdk',
    'a grain on its own table',
    unsafe('shares bytes'),
    grainAt((bytes) => tableAt(bytes) / sector),
  ),
  refused(
    'grains-overlap.vmdk',
    'two grains on the same bytes',
    unsafe('shares bytes'),
    grainAt((bytes) => bytes.readUInt32LE(tableAt(bytes) + 4)),
  ),
  refused(
    'grain-past-end.vmdk',
    'a grain behind the end',
    incomplete('guest byte 0'),
    grainAt(() => 2 ** 30),
  ),
  refused('cut.vmdk', 'cut off in the middle', incomplete('guest byte'), async (shop) => {
    const bytes = await shop.convert('vmdk')
    return bytes.subarray(0, bytes.length >> 1)
  }),
  refused('cowd.vmdk', 'COWD', ['FORMAT_UNSUPPORTED', 'COWD'], () =>
    patched(Buffer.alloc(4096), (bytes) => void bytes.write('COWD\x01', 'latin1')),
  ),
  refused('sesparse.vmdk', 'seSparse', ['FORMAT_UNSUPPORTED', 'seSparse'], () =>
    patched(Buffer.alloc(4096), (bytes) => void bytes.writeBigUInt64LE(0xca_fe_ba_ben)),
  ),
]
