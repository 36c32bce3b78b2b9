import { plainText, type DiskBytes } from './disk-bytes.ts'
import { createFileTree, type FileSystem, type TreeEntry, type TreeNode } from './file-tree.ts'

const sectorBytes = 2048
const firstVolume = 16
const mostVolumes = 16
const directoryFlag = 2

/** @see ECMA-119; names of Rock Ridge where they are: IEEE P1282 */
export async function openIso(bytes: DiskBytes): Promise<FileSystem | undefined> {
  const volume = await volumeOf(bytes, ({ type }) => type === 1)
  if (!volume) return undefined
  const root = volume.subarray(156, 190)
  return {
    type: 'iso9660',
    label: plainText(volume.subarray(40, 72)),
    uuid: undefined,
    openTree: async () => createFileTree(nodeOf(bytes, root), { ignoresCase: true }),
  }
}

/** A system that a CD starts without its file system. */
export interface BootImage {
  readonly firmware: 'bios' | 'uefi'
  /** The image, to the end of the disk. */
  readonly bytes: DiskBytes
}

/** @see El Torito 1.0 */
export async function bootImagesOf(bytes: DiskBytes): Promise<BootImage[]> {
  const record = await volumeOf(bytes, ({ type, text }) => {
    return type === 0 && text.startsWith('EL TORITO SPECIFICATION')
  })
  if (!record) return []
  const catalog = await bytes.read(record.readUInt32LE(71) * sectorBytes, sectorBytes)
  if (catalog.readUInt16LE(30) !== 0xaa55) return []
  const found: BootImage[] = []
  let platform = catalog.readUInt8(1)
  for (let at = 32; at < catalog.length; at += 32) {
    const kind = catalog.readUInt8(at)
    // The head of a section for another platform; then its entries.
    if (kind === 0x90 || kind === 0x91) platform = catalog.readUInt8(at + 1)
    if (kind !== 0x88) continue
    const start = catalog.readUInt32LE(at + 8) * sectorBytes
    const firmware = platform === 0xef ? 'uefi' : platform === 0 ? 'bios' : undefined
    if (firmware) found.push({ firmware, bytes: bytes.part(start, bytes.size) })
  }
  return found
}

async function volumeOf(
  bytes: DiskBytes,
  isWanted: (volume: { readonly type: number; readonly text: string }) => boolean,
): Promise<Buffer | undefined> {
  for (let index = 0; index < mostVolumes; index++) {
    const volume = await bytes.read((firstVolume + index) * sectorBytes, sectorBytes)
    const type = volume.readUInt8(0)
    if (volume.toString('latin1', 1, 6) !== 'CD001' || type === 255) return undefined
    if (isWanted({ type, text: volume.toString('latin1', 7, 39) })) return volume
  }
  return undefined
}

function nodeOf(bytes: DiskBytes, record: Buffer): TreeNode {
  const start = record.readUInt32LE(2) * sectorBytes
  const size = record.readUInt32LE(10)
  const isFolder = (record.readUInt8(25) & directoryFlag) !== 0
  return {
    kind: isFolder ? 'folder' : 'file',
    size,
    contents: (most) => bytes.read(start, Math.min(most, size)),
    async *entries() {
      for (let at = 0; at < size; at += sectorBytes) {
        yield* entriesIn(await bytes.read(start + at, sectorBytes), bytes)
      }
    },
  }
}

function* entriesIn(sector: Buffer, bytes: DiskBytes): Generator<TreeEntry, void> {
  for (let at = 0; at + 34 <= sector.length;) {
    const length = sector.readUInt8(at)
    // No record crosses sectors.
    if (length < 34 || at + length > sector.length) return
    const record = sector.subarray(at, at + length)
    const nameLength = record.readUInt8(32)
    const said = record.subarray(33, 33 + nameLength)
    const isDots = nameLength === 1 && (said[0] === 0 || said[0] === 1)
    if (!isDots) {
      const name = rockRidgeName(record, nameLength) ?? plainName(said)
      yield { name, open: async () => nodeOf(bytes, record) }
    }
    at += length
  }
}

/** Without the version and the dot of a name that has no ending. */
function plainName(said: Buffer): string {
  return said.toString('latin1').replace(/;\d+$/, '').replace(/\.$/, '')
}

function rockRidgeName(record: Buffer, nameLength: number): string | undefined {
  let name: string | undefined
  for (let at = 33 + nameLength + ((nameLength + 1) % 2); at + 4 <= record.length;) {
    const length = record.readUInt8(at + 2)
    if (length < 4) break
    if (record.toString('latin1', at, at + 2) === 'NM' && length > 5) {
      name = (name ?? '') + record.toString('utf8', at + 5, at + length)
    }
    at += length
  }
  return name
}
