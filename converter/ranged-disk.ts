import type { ByteRange } from '../core/registry.ts'
import { CodedError } from '../core/errors.ts'
import type { Bytes } from '../core/streams.ts'
import { openMappedDisk, type OpenedDisk, type OpenMappedOptions } from './disk-reader.ts'
import type { DiskFile, PackedExtent } from './one-pass.ts'
import { createRunTable, sectorBytes, type RunTable, type Stretch } from './run-table.ts'
import { unpacked, type Extent } from './unpack.ts'

/** A file of which any part can be had. */
export interface RangedFile {
  readonly size: number
  /** These bytes in order; a chunk is valid until the next one is asked for. */
  read(range: ByteRange): Bytes
}

/** A disk whose tables are read, and whose data can be read in its own order. */
export interface RangedDisk {
  readonly virtualSize: number
  /** Bytes of the file that are left to read from `position` of the disk on. */
  bytesFrom(position: number): number
  /** What is not zero from `position` on, in the order of the disk. May be read once. */
  extents(position: number): AsyncGenerator<Extent, void>
}

export interface MapRangedOptions extends OpenMappedOptions {
  readonly signal: AbortSignal
}

/** Tables are read so many bytes at a time: the next one is often behind the last. */
const windowBytes = 1024 * 1024
const mostTableBytes = 256 * 1024 * 1024
const mostRequests = 4096
/** 64 MB of memory. */
const mostRuns = 2 * 1024 * 1024
/** What lies between two runs and is read with them, rather than asked for twice. */
const mostGapBytes = 256 * 1024
/** On average; what is in smaller stretches is read sooner in the order of its file. */
const leastStretchBytes = 4 * 1024 * 1024

/**
 * Reads the tables of a disk image first, from wherever they are. `undefined` where reading the file
 * in its own order, in one pass, is better: its tables are all over it, or its data are in another
 * order than the disk's. Throws IMAGE_UNSAFE, IMAGE_INCOMPLETE, SIZE_EXCEEDED and what `file` throws.
 */
export async function mapRanged(
  file: RangedFile,
  options: MapRangedOptions,
): Promise<RangedDisk | undefined> {
  const { format, signal } = options
  const disk = openMappedDisk(options)
  if (disk.tablesAreAmongData) return undefined
  const runs = createRunTable(format)
  const tables = createTableReader(file, runs, options)
  for await (const run of disk.map(tables)) {
    signal.throwIfAborted()
    if (runs.size >= mostRuns || tables.isTooMuch()) return undefined
    requireInside(run.start + run.size, `the data of guest byte ${run.guest}`)
    runs.add(run)
  }
  runs.requireApart()
  const stretches = runs.stretches(mostGapBytes)
  const { dataBytes } = runs
  if (stretches > 8 + dataBytes / leastStretchBytes) return undefined

  function requireInside(end: number, what: string): void {
    if (end > file.size) throw cutOff(format, what, end, file.size)
  }

  return {
    virtualSize: disk.virtualSize,
    bytesFrom: (position) => runs.bytesFrom(position),
    extents: (position) => readExtents(file, disk, runs, { format, position }),
  }
}

interface TableReader extends DiskFile {
  isTooMuch(): boolean
}

function createTableReader(
  file: RangedFile,
  runs: RunTable,
  { format, head }: MapRangedOptions,
): TableReader {
  let window = { start: 0, bytes: head }
  let requests = 0
  let tableBytes = 0
  return {
    isTooMuch: () => requests > mostRequests || tableBytes > mostTableBytes,
    async read(start, size, what) {
      const end = start + size
      if (end > file.size) throw cutOff(format, what, end, file.size)
      runs.addTable({ start, end })
      tableBytes += size
      if (tableBytes > 2 * mostTableBytes || requests > 2 * mostRequests) {
        throw new CodedError('IMAGE_UNSAFE', `the ${format} is refused: its tables are too large`)
      }
      if (start < window.start || end > window.start + window.bytes.length) {
        requests++
        const range = { start, end: Math.min(file.size, start + Math.max(size, windowBytes)) }
        const bytes = Buffer.allocUnsafeSlow(range.end - range.start)
        let filled = 0
        for await (const chunk of file.read(range)) {
          bytes.set(chunk, filled)
          filled += chunk.length
        }
        window = { start, bytes }
      }
      return Uint8Array.from(window.bytes.subarray(start - window.start, end - window.start))
    },
  }
}

async function* readExtents(
  file: RangedFile,
  { virtualSize, pieceBytes }: OpenedDisk,
  runs: RunTable,
  { format, position }: { readonly format: string; readonly position: number },
): AsyncGenerator<Extent, void> {
  async function* packed(): AsyncGenerator<PackedExtent, void> {
    for (const stretch of runs.from(position, mostGapBytes)) yield* cut(file, stretch)
  }
  yield* unpacked(packed(), { format, pieceBytes, virtualSize: () => virtualSize })
}

/** The runs of one stretch of the file: plain ones as they come, packed ones whole. */
async function* cut(
  file: RangedFile,
  { range, runs, hasPacked }: Stretch,
): AsyncGenerator<PackedExtent, void> {
  const left = runs[Symbol.iterator]()
  let run = left.next().value
  let whole: Buffer | undefined
  let at = range.start
  /** The last sector of what is read, which two runs may share. */
  let shared = new Uint8Array()
  for await (const next of file.read(range)) {
    const chunk = shared.length > 0 ? Buffer.concat([shared, next]) : next
    at -= shared.length
    const end = at + chunk.length
    while (run && run.start < end) {
      const from = Math.max(run.start, at)
      const to = Math.min(run.start + run.size, end)
      const part = chunk.subarray(from - at, to - at)
      const done = from - run.start
      if (run.packing === 'plain') {
        yield { guest: run.guest + done, bytes: part, packing: 'plain' }
      } else {
        whole ??= Buffer.allocUnsafe(run.size)
        whole.set(part, done)
        if (to === run.start + run.size) {
          yield { guest: run.guest, bytes: whole, packing: run.packing }
        }
      }
      if (to < run.start + run.size) break
      whole = undefined
      run = left.next().value
    }
    at = end
    shared = hasPacked ? Uint8Array.from(chunk.subarray(-sectorBytes)) : new Uint8Array()
  }
}

function cutOff(format: string, what: string, end: number, fileSize: number): CodedError {
  return new CodedError(
    'IMAGE_INCOMPLETE',
    `the ${format} is cut off: ${what} ends at byte ${end}, the file at ${fileSize}; check the source file`,
    { detail: { end, fileSize } },
  )
}
