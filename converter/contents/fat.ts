import { plainText, type DiskBytes } from './disk-bytes.ts'
import { createFileTree, type FileSystem, type TreeEntry, type TreeNode } from './file-tree.ts'

interface Volume {
  readonly bits: 12 | 16 | 32
  readonly fatAt: number
  readonly rootAt: number
  readonly rootBytes: number
  readonly dataAt: number
  readonly clusterBytes: number
  readonly clusters: number
  /** Of FAT32, whose root is a folder like others. */
  readonly rootCluster: number
}

const entryBytes = 32
const attributes = { label: 0x08, folder: 0x10, longName: 0x0f }
/** More clusters of one file or folder are not followed. */
const mostClusters = 65_536

/** FAT12, FAT16 and FAT32, told apart by their size as the specification wants it. */
export async function openFat(bytes: DiskBytes): Promise<FileSystem | undefined> {
  const boot = await bytes.read(0, 512)
  const volume = parseVolume(boot)
  if (!volume) return undefined
  const tail = volume.bits === 32 ? 66 : 38
  const isExtended = boot.readUInt8(tail) === 0x29
  const serial = boot
    .readUInt32LE(tail + 1)
    .toString(16)
    .toUpperCase()
    .padStart(8, '0')
  const said = isExtended ? plainText(boot.subarray(tail + 5, tail + 16)) : undefined
  return {
    type: 'vfat',
    label: said === 'NO NAME' ? undefined : said,
    uuid: isExtended ? `${serial.slice(0, 4)}-${serial.slice(4)}` : undefined,
    openTree: async () => createFileTree(rootOf(bytes, volume), { ignoresCase: true }),
  }
}

function parseVolume(boot: Buffer): Volume | undefined {
  const sectorBytes = boot.readUInt16LE(11)
  const clusterSectors = boot.readUInt8(13)
  const fats = boot.readUInt8(16)
  const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0
  const isJump = boot.readUInt8(0) === 0xeb || boot.readUInt8(0) === 0xe9
  const isSane = sectorBytes >= 512 && sectorBytes <= 4096 && isPowerOfTwo(sectorBytes)
  const hasMedia = boot.readUInt8(21) === 0xf0 || boot.readUInt8(21) >= 0xf8
  if (!isJump || !isSane || !isPowerOfTwo(clusterSectors) || !hasMedia) return undefined
  const reserved = boot.readUInt16LE(14)
  const fatSectors = boot.readUInt16LE(22) || boot.readUInt32LE(36)
  if (fats < 1 || fats > 2 || reserved === 0 || fatSectors === 0) return undefined
  const sectors = boot.readUInt16LE(19) || boot.readUInt32LE(32)
  const rootBytes = boot.readUInt16LE(17) * entryBytes
  const rootAt = (reserved + fats * fatSectors) * sectorBytes
  const dataAt = rootAt + Math.ceil(rootBytes / sectorBytes) * sectorBytes
  const clusterBytes = clusterSectors * sectorBytes
  const clusters = Math.floor((sectors * sectorBytes - dataAt) / clusterBytes)
  if (clusters < 1) return undefined
  const isFat32 = boot.readUInt16LE(22) === 0
  const bits = isFat32 ? 32 : clusters < 4085 ? 12 : 16
  const fatAt = reserved * sectorBytes
  const rootCluster = isFat32 ? boot.readUInt32LE(44) : 0
  return { bits, fatAt, rootAt, rootBytes, dataAt, clusterBytes, clusters, rootCluster }
}

function rootOf(bytes: DiskBytes, volume: Volume): TreeNode {
  if (volume.bits === 32) return nodeOf(bytes, volume, volume.rootCluster, 'folder', 0)
  return {
    ...nodeOf(bytes, volume, 0, 'folder', 0),
    entries: async function* entries() {
      yield* entriesIn([await bytes.read(volume.rootAt, volume.rootBytes)], bytes, volume)
    },
  }
}

function nodeOf(
  bytes: DiskBytes,
  volume: Volume,
  first: number,
  kind: 'file' | 'folder',
  size: number,
): TreeNode {
  async function* clusters(): AsyncGenerator<Buffer, void> {
    let cluster = first
    for (let passed = 0; passed < mostClusters; passed++) {
      if (cluster < 2 || cluster >= volume.clusters + 2) return
      const at = volume.dataAt + (cluster - 2) * volume.clusterBytes
      yield await bytes.read(at, volume.clusterBytes)
      cluster = await nextCluster(bytes, volume, cluster)
    }
  }
  return {
    kind,
    size,
    async contents(most) {
      const wanted = Math.min(most, size)
      const into = Buffer.alloc(wanted)
      let done = 0
      for await (const cluster of clusters()) {
        done += cluster.copy(into, done)
        if (done >= wanted) break
      }
      return into.subarray(0, done)
    },
    entries: () => entriesIn(clusters(), bytes, volume),
  }
}

async function nextCluster(
  bytes: DiskBytes,
  { bits, fatAt }: Volume,
  cluster: number,
): Promise<number> {
  if (bits === 32) return (await bytes.read(fatAt + cluster * 4, 4)).readUInt32LE(0) & 0xfff_ffff
  if (bits === 16) return (await bytes.read(fatAt + cluster * 2, 2)).readUInt16LE(0)
  const pair = (await bytes.read(fatAt + Math.floor(cluster * 1.5), 2)).readUInt16LE(0)
  return cluster % 2 === 0 ? pair & 0xfff : pair >>> 4
}

async function* entriesIn(
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  bytes: DiskBytes,
  volume: Volume,
): AsyncGenerator<TreeEntry, void> {
  let longName = ''
  for await (const piece of pieces) {
    for (let at = 0; at + entryBytes <= piece.length; at += entryBytes) {
      const entry = piece.subarray(at, at + entryBytes)
      const first = entry.readUInt8(0)
      if (first === 0) return
      const flags = entry.readUInt8(11)
      if (first !== 0xe5 && flags === attributes.longName) {
        // They stand in front of the entry, the last part of the name first.
        longName = (partOfName(entry) + longName).slice(0, 255)
        continue
      }
      const name = longName === '' ? shortName(entry) : longName
      longName = ''
      if (first === 0xe5 || first === 0x2e || (flags & attributes.label) !== 0) continue
      const cluster = entry.readUInt16LE(20) * 2 ** 16 + entry.readUInt16LE(26)
      const kind = (flags & attributes.folder) === 0 ? 'file' : 'folder'
      const size = entry.readUInt32LE(28)
      yield { name, open: async () => nodeOf(bytes, volume, cluster, kind, size) }
    }
  }
}

function shortName(entry: Buffer): string {
  const name = entry.toString('latin1', 0, 8).trimEnd()
  const ending = entry.toString('latin1', 8, 11).trimEnd()
  return ending === '' ? name : `${name}.${ending}`
}

function partOfName(entry: Buffer): string {
  const fields = [entry.subarray(1, 11), entry.subarray(14, 26), entry.subarray(28, 32)]
  const [text = ''] = Buffer.concat(fields).toString('utf16le').split('\0', 1)
  return text
}
