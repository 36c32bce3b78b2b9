import { promisify } from 'node:util'
import { inflateRaw, zstdDecompress } from 'node:zlib'
import { zstdFrameBytes } from '../core/zstd-frame.ts'
import { standardOffset } from './formats/qcow2-entries.ts'
import type { Qcow2Header } from './formats/qcow2-header.ts'
import { compressedFlag, compressedSectorBytes, tableEntryBytes } from './qcow2-layout.ts'

type ReadAt = (offset: number, length: number) => Promise<Uint8Array>

/** Tables are read in pieces of so many bytes, and the last ones kept. */
const tableBytes = 4096
const mostTables = 64
/** Unpacked clusters are up to 2 MiB each. */
const mostUnpacked = 4

const engines = { zlib: promisify(inflateRaw), zstd: promisify(zstdDecompress) }

/**
 * The disk in a qcow2 at any place: `length` bytes at `offset`, both within its virtual size. The
 * file is one that `checkQcow2Complete` has passed, or of ours. Rejects where a cluster cannot be
 * unpacked, and for extended L2 entries, which are never stored.
 */
export function readQcow2Guest(header: Qcow2Header, readFile: ReadAt): ReadAt {
  const { clusterBits, clusterSize, l1Offset } = header
  const entriesPerTable = clusterSize / tableEntryBytes
  const tables = createKept<DataView>(mostTables)
  const unpacked = createKept<Uint8Array>(mostUnpacked)

  /** The two halves of an entry. */
  async function entryAt(table: number, index: number): Promise<readonly [number, number]> {
    const at = table + index * tableEntryBytes
    const start = at - (at % tableBytes)
    const view = await tables(start, async () => {
      const bytes = await readFile(start, tableBytes)
      return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    })
    return [view.getUint32(at - start), view.getUint32(at - start + 4)]
  }

  function unpack(hi: number, lo: number): Promise<Uint8Array> {
    const offsetBits = 62 - (clusterBits - 8)
    const sectors = ((hi & 0x3f_ff_ff_ff) >>> (offsetBits - 32)) + 1
    const start = (hi & (2 ** (offsetBits - 32) - 1)) * 2 ** 32 + lo
    const end = start - (start % compressedSectorBytes) + sectors * compressedSectorBytes
    return unpacked(start, async () => {
      const bytes = await readFile(start, end - start)
      const { compressionType: type } = header
      // Behind a frame lies what else is in its last sector.
      const exact = type === 'zstd' ? bytes.subarray(0, zstdFrameBytes(bytes)) : bytes
      return engines[type](exact, { maxOutputLength: clusterSize })
    })
  }

  /** Where a guest cluster is stored as it is; its bytes where it is packed; `undefined`: zeros. */
  async function locate(cluster: number): Promise<number | Uint8Array | undefined> {
    const [l1Hi, l1Lo] = await entryAt(l1Offset, Math.floor(cluster / entriesPerTable))
    const table = standardOffset(l1Hi, l1Lo)
    if (table === 0) return undefined
    const [hi, lo] = await entryAt(table, cluster % entriesPerTable)
    if ((hi & compressedFlag) !== 0) return unpack(hi, lo)
    const start = standardOffset(hi, lo)
    return start === 0 || (lo & 1) === 1 ? undefined : start
  }

  return async (offset, length) => {
    if (header.l2EntryBytes !== tableEntryBytes) throw new Error('extended L2 entries')
    const into = new Uint8Array(length)
    /** Clusters that adjoin in the file are read together. */
    let run = { start: 0, at: 0, size: 0 }
    const readRun = async (): Promise<void> => {
      if (run.size > 0) into.set(await readFile(run.start, run.size), run.at)
    }
    for (let at = 0; at < length;) {
      const inCluster = (offset + at) % clusterSize
      const size = Math.min(clusterSize - inCluster, length - at)
      const found = await locate(Math.floor((offset + at) / clusterSize))
      if (typeof found !== 'number') {
        if (found) into.set(found.subarray(inCluster, inCluster + size), at)
      } else if (run.at + run.size === at && run.start + run.size === found + inCluster) {
        run.size += size
      } else {
        await readRun()
        run = { start: found + inCluster, at, size }
      }
      at += size
    }
    await readRun()
    return into
  }
}

/** The last `most` values by the place that they came from. */
function createKept<Value>(most: number) {
  const kept = new Map<number, Value>()
  return async (key: number, read: () => Promise<Value>): Promise<Value> => {
    const value = kept.get(key) ?? (await read())
    kept.delete(key)
    kept.set(key, value)
    if (kept.size > most) kept.delete(kept.keys().next().value ?? key)
    return value
  }
}
