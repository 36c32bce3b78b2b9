import type { Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import type { Repository, WrittenBlob } from '../core/registry.ts'
import { createTail, observed, type Bytes } from '../core/streams.ts'
import type { ClusterPool } from '../converter/cluster-pool.ts'
import { checkEnd, tailBytes, type Detected } from '../converter/detect.ts'
import { checkQcow2Complete } from '../converter/qcow2-check.ts'
import { readDisk } from '../converter/disk-reader.ts'
import { withoutVhdFooter } from '../converter/formats/vhd-fixed.ts'
import { encodeExtents } from '../converter/extents-encoder.ts'
import { encodeQcow2, encoderVersion, metadataBound } from '../converter/qcow2-encoder.ts'
import { parseQcow2Header } from '../converter/formats/qcow2-header.ts'
import { openLayer, type LayerWriter } from './layer-writer.ts'
import type { StorePlan } from './plan.ts'
import type { Progress } from './progress.ts'

/** A disk on its way: decompressed and looked at, not yet read. */
export interface IncomingDisk {
  readonly body: Bytes
  readonly head: Uint8Array
  /** Bytes of `body`, where known. */
  readonly length: number | undefined
  readonly detected: Detected
}

/** A layer that is complete and hashed but not visible; disposing it forgets it unless committed. */
export interface PackedDisk extends AsyncDisposable {
  readonly layer: LayerWriter
  readonly written: WrittenBlob
  readonly detected: Detected
  readonly plan: StorePlan
  readonly virtualSize: number
  /** Of the disk as it came. */
  readonly diskSize: number
  readonly fileSize: number
  readonly contentDigest: Digest | undefined
  readonly encoder: string | undefined
}

export interface PackDeps {
  readonly repository: Repository
  readonly clusterPool: ClusterPool
  readonly scratchFolder: string
  readonly maxVirtualSize: number
  readonly signal: AbortSignal
  readonly progress: Progress
}

/** Writes the disk into a layer of the repository as `plan` says, and proves that it is whole. */
export async function packDisk(
  disk: IncomingDisk,
  plan: StorePlan,
  deps: PackDeps,
): Promise<PackedDisk> {
  const isCopy = plan.how === 'copy'
  assertVirtualSize(disk.detected.virtualSize, deps.maxVirtualSize)
  await using cleanup = new AsyncDisposableStack()
  const layer = cleanup.use(
    await openLayer(deps.repository.blobs, {
      fileName: plan.fileName,
      fileSize: isCopy ? disk.length : undefined,
      metadataBound: isCopy ? 0 : metadataBound(mostVirtualBytes(disk, deps)),
      readBack: isCopy && disk.detected.format === 'qcow2',
      signal: deps.signal,
      onPush: deps.progress.pushed,
    }),
  )
  const file = isCopy ? await copy(disk, layer, deps) : await encode(disk, layer, deps)
  cleanup.move()
  return {
    ...file,
    layer,
    plan,
    [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
  }
}

type PackedFile = Pick<
  PackedDisk,
  'detected' | 'written' | 'virtualSize' | 'diskSize' | 'fileSize' | 'contentDigest' | 'encoder'
>

/** The bytes as they come. */
async function copy(
  { body, head, detected }: IncomingDisk,
  layer: LayerWriter,
  { maxVirtualSize, signal, progress }: PackDeps,
): Promise<PackedFile> {
  const tail = createTail(tailBytes)
  let size = 0
  for await (const chunk of body) {
    await layer.write(chunk)
    tail.push(chunk)
    size += chunk.length
    // A file may be a little larger than its disk: tables, headers, padding.
    assertVirtualSize(size - maxVirtualSize / 16, maxVirtualSize)
  }
  checkEnd(detected, { head, tail: tail.bytes(), length: size })
  if (detected.format === 'qcow2') {
    const readAt = (offset: number, length: number) => layer.readAt(offset, length)
    await checkQcow2Complete(parseQcow2Header(head), { readAt, fileSize: size, signal })
  }
  progress.stage('digest')
  return {
    detected,
    written: await layer.finish({ size, metadata: undefined }),
    virtualSize: detected.virtualSize ?? size,
    diskSize: size,
    fileSize: size,
    contentDigest: undefined,
    encoder: undefined,
  }
}

/** Of a raw disk its length; of other formats what their header says. */
function mostVirtualBytes(
  { length, detected }: IncomingDisk,
  { maxVirtualSize }: PackDeps,
): number {
  return (detected.format === 'raw' ? length : detected.virtualSize) ?? maxVirtualSize
}

/** Any disk as our qcow2. */
async function encode(disk: IncomingDisk, layer: LayerWriter, deps: PackDeps): Promise<PackedFile> {
  const { body, head, detected } = disk
  const { clusterPool, scratchFolder, maxVirtualSize, signal, progress } = deps
  const tail = createTail(tailBytes)
  let diskSize = 0
  let isFixedVhd = false
  const file = observed(body, (chunk) => (diskSize += chunk.length))
  const options = {
    write: (chunk: Uint8Array) => layer.write(chunk),
    maxVirtualSize,
    spillFolder: scratchFolder,
    pool: clusterPool,
    signal,
  }
  const { format } = detected
  await using encoded =
    format === 'raw' || format === 'iso'
      ? await encodeQcow2(
          observed(
            withoutVhdFooter(file, () => (isFixedVhd = true)),
            tail.push,
          ),
          options,
        )
      : await encodeExtents(
          readDisk(file, { ...options, format, head, mostSpillBytes: maxVirtualSize }),
          options,
        )
  const { virtualSize, sourceSize, metadataSize, dataSize, contentDigest } = encoded
  checkEnd(detected, { head, tail: tail.bytes(), length: sourceSize })
  progress.stage('digest')
  const fileSize = metadataSize + dataSize
  const metadata = { size: metadataSize, bytes: encoded.metadata() }
  return {
    detected: isFixedVhd ? { format: 'vhd', virtualSize } : detected,
    written: await layer.finish({ size: fileSize, metadata }),
    virtualSize,
    diskSize,
    fileSize,
    contentDigest,
    encoder: encoderVersion,
  }
}

function assertVirtualSize(virtualSize: number | undefined, most: number): void {
  if (virtualSize === undefined || virtualSize <= most) return
  throw new CodedError(
    'SIZE_EXCEEDED',
    `the disk has ${virtualSize} bytes, more than the allowed ${most} (maxVirtualSize)`,
  )
}
