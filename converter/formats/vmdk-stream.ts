import type { DiskFile } from '../one-pass.ts'
import type { MappedRun } from '../run-queue.ts'
import { sectorBytes, unsafe, type VmdkHeader } from './vmdk-header.ts'

const markerType = { endOfStream: 0, grainTable: 1, grainDirectory: 2, footer: 3 } as const
const markerBytes = 12

/**
 * The grains of a VMDK whose directory comes last, as they come, each with a marker. Tables,
 * directory and footer must then say the same: else the file would be another disk to those who
 * begin at its end. @see VMware, Virtual Disk Format 5.0 §stream-optimized
 */
export async function* mapVmdkStream(
  header: VmdkHeader,
  file: DiskFile,
): AsyncGenerator<MappedRun, void> {
  const { virtualSize, grainBytes, tableEntries, overheadBytes } = header
  const grains = Math.ceil(virtualSize / grainBytes)
  const tables = Math.ceil(grains / tableEntries)
  /** Sector of each grain since the last table, by grain. */
  let seen = new Map<number, number>()
  const directory = new Uint32Array(tables)
  const emptyTables = new Set<number>()
  let directorySector: number | undefined

  function checkTable(table: Buffer, sector: number): void {
    const [first] = seen.keys()
    if (first === undefined) {
      if (table.some((byte) => byte !== 0))
        throw unsafe('a grain table names grains that are not there')
      emptyTables.add(sector)
      return
    }
    const index = Math.floor(first / tableEntries)
    let named = 0
    for (let at = 0; at < tableEntries; at++) {
      const entry = table.readUInt32LE(at * 4)
      if (entry <= 1) continue
      named++
      if (seen.get(index * tableEntries + at) !== entry) {
        throw unsafe(`grain table ${index} names another grain than the markers`)
      }
    }
    if (named !== seen.size) throw unsafe(`grain table ${index} leaves grains out`)
    if (directory[index] !== 0) throw unsafe(`there are two grain tables ${index}`)
    directory[index] = sector
    seen = new Map()
  }

  function checkDirectory(bytes: Buffer, sector: number): void {
    if (seen.size > 0) throw unsafe('grains are in no grain table')
    for (const [index, expected] of directory.entries()) {
      const entry = bytes.readUInt32LE(index * 4)
      if (entry === expected || (expected === 0 && emptyTables.has(entry))) continue
      throw unsafe(`its grain directory names another table ${index} than the markers`)
    }
    directorySector = sector
  }

  let at = overheadBytes
  for (;;) {
    const marker = Buffer.from(await file.read(at, markerBytes, 'a marker'))
    const value = Number(marker.readBigUInt64LE(0))
    const size = marker.readUInt32LE(8)
    if (size > 0) {
      const grain = (value * sectorBytes) / grainBytes
      if (!Number.isInteger(grain) || grain >= grains || size > 2 * grainBytes) {
        throw unsafe(`a marker says ${size} bytes for sector ${value}`)
      }
      if (seen.has(grain)) throw unsafe(`grain ${grain} is there twice`)
      const [first = grain] = seen.keys()
      if (Math.floor(first / tableEntries) !== Math.floor(grain / tableEntries)) {
        throw unsafe(`grain ${grain} comes before the table of those before it`)
      }
      seen.set(grain, at / sectorBytes)
      yield { start: at + markerBytes, size, guest: grain * grainBytes, packing: 'zlib' }
      at += Math.ceil((markerBytes + size) / sectorBytes) * sectorBytes
      continue
    }
    const type = Buffer.from(await file.read(at + markerBytes, 4, 'a marker')).readUInt32LE(0)
    at += sectorBytes
    if (type === markerType.endOfStream) break
    const bytes = value * sectorBytes
    if (type === markerType.grainTable) {
      if (bytes < tableEntries * 4 || bytes > tableEntries * 4 + sectorBytes) {
        throw unsafe(`a grain table has ${bytes} bytes`)
      }
      checkTable(Buffer.from(await file.read(at, bytes, 'a grain table')), at / sectorBytes)
    } else if (type === markerType.grainDirectory) {
      if (bytes < tables * 4 || bytes > tables * 4 + sectorBytes) {
        throw unsafe(`its grain directory has ${bytes} bytes`)
      }
      checkDirectory(
        Buffer.from(await file.read(at, bytes, 'the grain directory')),
        at / sectorBytes,
      )
    } else if (type === markerType.footer) {
      checkFooter(
        Buffer.from(await file.read(at, sectorBytes, 'the footer')),
        header,
        directorySector,
      )
    } else {
      throw unsafe(`a marker has the type ${type}`)
    }
    at += bytes
  }
  if (directorySector === undefined) throw unsafe('it has no grain directory')
}

/**
 * What the footer repeats of the header, from byte to byte: who begins at the end takes all from
 * there. The others, which nobody reads a disk by, differ between writers.
 */
const repeated = {
  magic: [0, 4],
  version: [4, 8],
  flags: [8, 12],
  capacity: [12, 20],
  grainSize: [20, 28],
  descriptorOffset: [28, 36],
  descriptorSize: [36, 44],
  numGTEsPerGT: [44, 48],
  compressAlgorithm: [77, 79],
} as const

function checkFooter(
  footer: Buffer,
  { bytes }: VmdkHeader,
  directorySector: number | undefined,
): void {
  for (const [field, [start, end]] of Object.entries(repeated)) {
    if (footer.compare(bytes, start, end, start, end) === 0) continue
    throw unsafe(`its footer says something else than its header (${field})`)
  }
  if (Number(footer.readBigUInt64LE(56)) !== directorySector) {
    throw unsafe('its footer says something else than its markers (gdOffset)')
  }
}
