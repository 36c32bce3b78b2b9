import { CodedError } from '../../core/errors.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import { createTail, observed, peek } from '../../core/streams.ts'
import { checkEnd, detect, headBytes, tailBytes, type Detected } from '../../converter/detect.ts'
import { readDisk } from '../../converter/disk-reader.ts'
import { mapRanged, type RangedFile } from '../../converter/ranged-disk.ts'
import { withoutVhdFooter } from '../../converter/formats/vhd-fixed.ts'
import { parseQcow2Header } from '../../converter/formats/qcow2-header.ts'
import { checkQcow2Complete } from '../../converter/qcow2-check.ts'
import { unpackAppliance } from '../../importer/appliance.ts'

/** What the parsers say of an image: a format and its disk, or a code. */
export type Read = { readonly format: string; readonly disk: Buffer } | { readonly code: string }

export interface ReadOptions {
  readonly hashPool: HashPool
  readonly scratchFolder: string
  readonly maxVirtualSize: number
  /** Bytes of a chunk. */
  readonly chunk: number
}

/** By the parsers of an import, without decompression, storage and encoding. */
export async function readImage(image: Buffer, options: ReadOptions): Promise<Read> {
  try {
    return await read(image, options)
  } catch (error) {
    // Anything else, and what would be called a defect of ours, fails the test.
    if (error instanceof CodedError && error.status < 500) return { code: error.code }
    throw error
  }
}

async function read(
  image: Buffer,
  { hashPool, scratchFolder, maxVirtualSize, chunk }: ReadOptions,
): Promise<Read> {
  const { signal } = new AbortController()
  const unpacked = await unpackAppliance(inChunks(image, chunk), {
    hashPool,
    maxVirtualSize,
  })
  const { head, rest } = await peek(unpacked.body, headBytes)
  await using body = rest
  const detected = detect(head, { length: unpacked.length })
  const { format, virtualSize } = detected
  if (virtualSize !== undefined && virtualSize > maxVirtualSize) return { code: 'SIZE_EXCEEDED' }
  const tail = createTail(tailBytes)
  if (format === 'raw' || format === 'iso') {
    let isVhd = false
    const chunks: Buffer[] = []
    for await (const part of observed(
      withoutVhdFooter(body, 0, () => (isVhd = true)),
      tail.push,
    )) {
      chunks.push(Buffer.from(part))
    }
    const disk = Buffer.concat(chunks)
    checkEnd(detected, { head, tail: tail.bytes(), length: disk.length }, { isProven: true })
    return { format: isVhd ? 'vhd' : format, disk }
  }
  const reader = readDisk(body, {
    format,
    head,
    maxVirtualSize,
    mostSpillBytes: maxVirtualSize,
    spillFolder: scratchFolder,
    signal,
  })
  let disk: Buffer | undefined
  let given = 0
  for await (const { guest, bytes } of reader.extents()) {
    given += bytes.length
    if (guest + bytes.length > reader.virtualSize || given > reader.virtualSize) {
      throw new Error(`${given} bytes of ${reader.virtualSize} were given, these at ${guest}`)
    }
    disk ??= Buffer.alloc(reader.virtualSize)
    disk.set(bytes, guest)
  }
  if (unpacked.length === undefined) await checkAsStored(image, detected)
  return { format, disk: disk ?? Buffer.alloc(reader.virtualSize) }
}

/** What is demanded of a qcow2 that is stored as it came. */
async function checkAsStored(image: Buffer, { format, unclean }: Detected): Promise<void> {
  if (format !== 'qcow2' || unclean !== undefined) return
  await checkQcow2Complete(parseQcow2Header(image.subarray(0, headBytes)), {
    readAt: async (offset, length) => image.subarray(offset, offset + length),
    fileSize: image.length,
    signal: new AbortController().signal,
  })
}

/**
 * The same disk by its tables, as from a server with ranges; `undefined` for formats that have none,
 * and for images that are better read in one pass.
 */
export async function readByTables(
  image: Buffer,
  { maxVirtualSize, chunk }: Pick<ReadOptions, 'maxVirtualSize' | 'chunk'>,
): Promise<Read | undefined> {
  const { signal } = new AbortController()
  const head = image.subarray(0, headBytes)
  try {
    const detected = detect(head, { length: image.length })
    const { format, virtualSize = 0 } = detected
    if (format === 'raw' || format === 'iso') return undefined
    if (virtualSize > maxVirtualSize) return { code: 'SIZE_EXCEEDED' }
    const file: RangedFile = {
      size: image.length,
      read: ({ start, end }) => inChunks(image.subarray(start, end), chunk),
    }
    const ranged = await mapRanged(file, { format, head, maxVirtualSize, signal })
    if (!ranged) return undefined
    const disk = Buffer.alloc(ranged.virtualSize)
    for await (const { guest, bytes } of ranged.extents(0)) disk.set(bytes, guest)
    await checkAsStored(image, detected)
    return { format, disk }
  } catch (error) {
    if (error instanceof CodedError && error.status < 500) return { code: error.code }
    throw error
  }
}

async function* inChunks(bytes: Buffer, size: number): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}
