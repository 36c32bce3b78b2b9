import { zstdDecompressSync } from 'node:zlib'
import { batchBytes, clusterBytes, clustersPerBatch, type EncodedBatch } from './cluster-batch.ts'
import type { BufferLease, ClusterPool } from './cluster-pool.ts'
import { createQcow2Writer, type EncodedQcow2, type Qcow2WriterOptions } from './qcow2-writer.ts'
import { createSpill } from './spill.ts'
import type { DiskReader } from './disk-reader.ts'

export interface EncodeExtentsOptions extends Qcow2WriterOptions {
  readonly pool: ClusterPool
  readonly signal: AbortSignal
}

/** A batch that is being filled, in whatever order its bytes come. */
interface OpenBatch {
  readonly index: number
  readonly bytes: Buffer
  /** By cluster: 1 where it holds data. */
  readonly isData: Uint8Array
}

/** Clusters of one batch as they lie in the spool. */
interface Part {
  readonly at: number
  readonly sizes: Uint32Array
  readonly digest: Uint8Array
}

/** Batches that are filled at a time: writers of several threads mix a few of them. */
const mostOpen = 4
const spoolMemoryBytes = 4 * 1024 * 1024
const zeros = Buffer.alloc(clusterBytes)

/**
 * Encodes a disk whose data comes in any order, as `encodeQcow2` would
 * encode all its bytes. Costs a spool of the size that the data is stored in, in `spillFolder`.
 */
export async function encodeExtents(
  disk: DiskReader,
  { pool, signal, ...options }: EncodeExtentsOptions,
): Promise<EncodedQcow2 & { readonly spooledBytes: number }> {
  await using cleanup = new AsyncDisposableStack()
  const spool = cleanup.use(
    createSpill({ folder: options.spillFolder, memoryBytes: spoolMemoryBytes }),
  )
  const lease = pool.createLease()
  const parts = new Map<number, Part[]>()
  /** The longest unused first. */
  const open = new Map<number, OpenBatch>()
  const spare: Buffer[] = []
  let spooled = Promise.resolve()

  const sizeOf = (index: number): number =>
    Math.min(batchBytes, disk.virtualSize - index * batchBytes)

  function openBatch(index: number): OpenBatch {
    const found = open.get(index)
    const batch = found ?? {
      index,
      bytes: spare.pop() ?? Buffer.allocUnsafeSlow(batchBytes),
      isData: new Uint8Array(clustersPerBatch),
    }
    open.delete(index)
    open.set(index, batch)
    return batch
  }

  /** Encodes what a batch holds and appends it to the spool; encoding goes on in the background. */
  async function close(batch: OpenBatch): Promise<void> {
    open.delete(batch.index)
    const buffer = await lease.acquire(signal)
    copyData(batch, new Uint8Array(buffer))
    spare.push(batch.bytes)
    const { index, isData } = batch
    const encoding = pool.encode({ buffer, isData, size: sizeOf(index) })
    const before = spooled
    spooled = (async () => {
      try {
        const [encoded] = await Promise.all([encoding, before])
        await keep(index, encoded, new Uint8Array(buffer))
      } finally {
        lease.release(buffer)
      }
    })()
    // Reported where it is awaited.
    spooled.catch(() => {})
  }

  async function keep(index: number, encoded: EncodedBatch, bytes: Uint8Array): Promise<void> {
    const { sizes, digest } = encoded
    const part = { at: spool.size, sizes, digest }
    await spool.append(bytes.subarray(0, sum(sizes)))
    parts.set(index, [...(parts.get(index) ?? []), part])
  }

  async function add(guest: number, piece: Uint8Array): Promise<void> {
    if (Buffer.compare(piece, zeros.subarray(0, piece.length)) === 0) return
    const index = Math.floor(guest / batchBytes)
    if (!open.has(index) && open.size >= mostOpen) {
      const [oldest] = open.values()
      if (oldest) await close(oldest)
      signal.throwIfAborted()
    }
    const { bytes, isData } = openBatch(index)
    const inBatch = guest % batchBytes
    const cluster = Math.floor(inBatch / clusterBytes)
    if (isData[cluster] !== 1) {
      bytes.fill(0, cluster * clusterBytes, (cluster + 1) * clusterBytes)
      isData[cluster] = 1
    }
    bytes.set(piece, inBatch)
  }

  try {
    for await (const { guest, bytes } of disk.extents()) {
      for (let at = 0; at < bytes.length;) {
        const piece = bytes.subarray(at, at + clusterBytes - ((guest + at) % clusterBytes))
        await add(guest + at, piece)
        at += piece.length
      }
    }
    for (const batch of open.values()) await close(batch)
  } finally {
    await Promise.allSettled([spooled])
  }
  await spooled

  const writer = cleanup.use(createQcow2Writer(options))
  const join = createJoin({ lease, pool, signal, sizeOf })
  const staging = Buffer.allocUnsafeSlow(batchBytes)
  for (const index of [...parts.keys()].sort((a, b) => a - b)) {
    signal.throwIfAborted()
    const found = parts.get(index) ?? []
    const read = async ({ at, sizes }: Part, into: Buffer): Promise<Buffer> => {
      const bytes = into.subarray(0, sum(sizes))
      await spool.readAt(at, bytes)
      return bytes
    }
    const [only] = found
    if (only && found.length === 1) {
      await writer.add(index, { ...only, bytes: await read(only, staging) })
    } else {
      await join(index, found, (part) => read(part, staging), writer.add)
    }
  }
  const size = disk.virtualSize
  const spooledBytes = spool.size
  await spool[Symbol.asyncDispose]()
  const encoded = await writer.finish({ virtualSize: size, sourceSize: size })
  cleanup.move()
  return { ...encoded, spooledBytes }
}

interface JoinParts {
  readonly lease: BufferLease
  readonly pool: ClusterPool
  readonly signal: AbortSignal
  readonly sizeOf: (index: number) => number
}

/** A batch that came in several parts is put together and encoded once more. */
function createJoin({ lease, pool, signal, sizeOf }: JoinParts) {
  return async (
    index: number,
    parts: readonly Part[],
    read: (part: Part) => Promise<Uint8Array>,
    add: (index: number, batch: EncodedBatch & { readonly bytes: Uint8Array }) => Promise<void>,
  ): Promise<void> => {
    const buffer = await lease.acquire(signal)
    try {
      const bytes = new Uint8Array(buffer)
      const isData = new Uint8Array(clustersPerBatch)
      for (const part of parts) {
        const stored = await read(part)
        let at = 0
        for (const [cluster, size] of part.sizes.entries()) {
          if (size === 0) continue
          const frame = stored.subarray(at, at + size)
          const plain = size === clusterBytes ? frame : zstdDecompressSync(frame)
          mergeCluster(bytes, isData, cluster, plain)
          at += size
        }
      }
      const encoded = await pool.encode({ buffer, isData, size: sizeOf(index) })
      await add(index, { ...encoded, bytes })
    } finally {
      lease.release(buffer)
    }
  }
}

/** Each byte of a cluster comes once; where it has not come it is zero. */
function mergeCluster(
  bytes: Uint8Array,
  isData: Uint8Array,
  cluster: number,
  plain: Uint8Array,
): void {
  const start = cluster * clusterBytes
  if (isData[cluster] !== 1) {
    bytes.set(plain, start)
    isData[cluster] = 1
    return
  }
  for (const [at, byte] of plain.entries()) {
    if (byte !== 0) bytes[start + at] = byte
  }
}

function copyData({ bytes, isData }: OpenBatch, into: Uint8Array): void {
  for (const [cluster, holds] of isData.entries()) {
    if (holds !== 1) continue
    const start = cluster * clusterBytes
    into.set(bytes.subarray(start, start + clusterBytes), start)
  }
}

const sum = (sizes: Uint32Array): number => sizes.reduce((total, size) => total + size, 0)
