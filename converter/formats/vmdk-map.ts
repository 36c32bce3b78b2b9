import type { DiskFile, MapDisk } from '../one-pass.ts'
import type { MappedRun } from '../run-queue.ts'
import { checkVmdkDescriptor, sectorBytes, unsafe, type VmdkHeader } from './vmdk-header.ts'
import { mapVmdkStream } from './vmdk-stream.ts'

const markerBytes = 12
const runBytes = 1024 * 1024

/** A grain and where it is; grains of one table. */
interface Grain {
  readonly index: number
  readonly start: number
}

/** @see VMware, Virtual Disk Format 5.0; QEMU block/vmdk.c */
export function mapVmdk(header: VmdkHeader): MapDisk {
  return async function* map(file) {
    const { descriptor, directoryOffset } = header
    checkVmdkDescriptor(await file.read(descriptor.offset, descriptor.size, 'the descriptor'))
    if (directoryOffset === undefined) yield* mapVmdkStream(header, file)
    else yield* mapByDirectory(header, directoryOffset, file)
  }
}

async function* mapByDirectory(
  header: VmdkHeader,
  directoryOffset: number,
  file: DiskFile,
): AsyncGenerator<MappedRun, void> {
  const { virtualSize, grainBytes, tableEntries } = header
  const grains = Math.ceil(virtualSize / grainBytes)
  const tables = Math.ceil(grains / tableEntries)
  const directory = await readEntries(file, directoryOffset, tables, 'the grain directory')
  const inOrder = [...directory.entries()]
    .filter(([, sector]) => sector !== 0)
    .map(([index, sector]) => ({ index, start: sector * sectorBytes }))
    .toSorted((a, b) => a.start - b.start)
  for (const [at, { start }] of inOrder.entries()) {
    if (inOrder[at + 1]?.start === start) throw unsafe('a grain table is used twice')
  }
  for (const { index, start } of inOrder) {
    const entries = await readEntries(file, start, tableEntries, `grain table ${index}`)
    const first = index * tableEntries
    const mapped = [...entries.entries()]
      .filter(([at, sector]) => first + at < grains && isMapped(header, sector))
      .map(([at, sector]) => ({ index: first + at, start: sector * sectorBytes }))
      .toSorted((a, b) => a.start - b.start)
    if (header.isCompressed) yield* compressedRuns(header, file, mapped)
    else yield* plainRuns(header, mapped)
  }
}

function isMapped({ hasZeroGrains }: VmdkHeader, sector: number): boolean {
  return sector !== 0 && !(hasZeroGrains && sector === 1)
}

/** Grains that adjoin in the file and on the disk are one run. */
function* plainRuns(
  { grainBytes, virtualSize }: VmdkHeader,
  grains: readonly Grain[],
): Generator<MappedRun, void> {
  let run: MappedRun | undefined
  for (const { index, start } of grains) {
    const guest = index * grainBytes
    const size = Math.min(grainBytes, virtualSize - guest)
    if (run && start < run.start + run.size) throw unsafe(`grain ${index} shares bytes of the file`)
    const continues =
      run !== undefined &&
      start === run.start + run.size &&
      guest === run.guest + run.size &&
      run.size + size <= runBytes
    if (run && continues) {
      run = { ...run, size: run.size + size }
      continue
    }
    if (run) yield run
    run = { start, size, guest, packing: 'plain' }
  }
  if (run) yield run
}

/** What a grain takes is said by its marker. */
async function* compressedRuns(
  { grainBytes }: VmdkHeader,
  file: DiskFile,
  grains: readonly Grain[],
): AsyncGenerator<MappedRun, void> {
  let end = 0
  for (const { index, start } of grains) {
    if (start < end) throw unsafe(`grain ${index} shares bytes of the file`)
    const marker = Buffer.from(await file.read(start, markerBytes, `grain ${index}`))
    const guest = index * grainBytes
    if (Number(marker.readBigUInt64LE(0)) * sectorBytes !== guest) {
      throw unsafe(`the marker of grain ${index} says that it is another one`)
    }
    const size = marker.readUInt32LE(8)
    if (size === 0 || size > 2 * grainBytes) throw unsafe(`grain ${index} has ${size} bytes`)
    end = start + markerBytes + size
    yield { start: start + markerBytes, size, guest, packing: 'zlib' }
  }
}

async function readEntries(
  file: DiskFile,
  start: number,
  count: number,
  what: string,
): Promise<Uint32Array> {
  const bytes = Buffer.from(await file.read(start, count * 4, what))
  return Uint32Array.from({ length: count }, (_, at) => bytes.readUInt32LE(at * 4))
}
