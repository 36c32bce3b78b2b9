import type { Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import type { Repository, WrittenBlob } from '../core/registry.ts'
import { createTail, observed, type Bytes } from '../core/streams.ts'
import type { ClusterPool } from '../converter/cluster-pool.ts'
import { checkEnd, tailBytes, type Detected } from '../converter/detect.ts'
import { checkQcow2Complete } from '../converter/qcow2-check.ts'
import { encodeQcow2, encoderVersion, metadataBound } from '../converter/qcow2-encoder.ts'
import { parseQcow2Header } from '../converter/qcow2-header.ts'
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

/** Stores the bytes as they come, and proves at the end that they are a whole image. */
export async function packCopy(
  disk: IncomingDisk,
  plan: StorePlan,
  { repository, maxVirtualSize, signal, progress }: PackDeps,
): Promise<PackedDisk> {
  assertVirtualSize(disk.detected.virtualSize, maxVirtualSize)
  await using cleanup = new AsyncDisposableStack()
  const layer = cleanup.use(
    await openLayer(repository.blobs, {
      fileName: plan.fileName,
      fileSize: disk.length,
      metadataBound: 0,
      readBack: disk.detected.format === 'qcow2',
      signal,
      onPush: progress.pushed,
    }),
  )
  const tail = createTail(tailBytes)
  let size = 0
  for await (const chunk of disk.body) {
    await layer.write(chunk)
    tail.push(chunk)
    size += chunk.length
    // A file may be a little larger than its disk: tables, headers, padding.
    assertVirtualSize(size - maxVirtualSize / 16, maxVirtualSize)
  }
  checkEnd(disk.detected, { head: disk.head, tail: tail.bytes(), length: size })
  if (disk.detected.format === 'qcow2') {
    await checkQcow2Complete(parseQcow2Header(disk.head), {
      readAt: (offset, length) => layer.readAt(offset, length),
      fileSize: size,
      signal,
    })
  }
  progress.stage('digest')
  const written = await layer.finish({ size, metadata: undefined })
  cleanup.move()
  return {
    layer,
    written,
    detected: disk.detected,
    plan,
    virtualSize: disk.detected.virtualSize ?? size,
    diskSize: size,
    fileSize: size,
    contentDigest: undefined,
    encoder: undefined,
    [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
  }
}

/** Stores a raw disk as our qcow2. */
export async function packEncoded(
  disk: IncomingDisk,
  plan: StorePlan,
  { repository, clusterPool, scratchFolder, maxVirtualSize, signal, progress }: PackDeps,
): Promise<PackedDisk> {
  assertVirtualSize(disk.length, maxVirtualSize)
  await using cleanup = new AsyncDisposableStack()
  const layer = cleanup.use(
    await openLayer(repository.blobs, {
      fileName: plan.fileName,
      fileSize: undefined,
      metadataBound: metadataBound(disk.length ?? maxVirtualSize),
      signal,
      onPush: progress.pushed,
    }),
  )
  const tail = createTail(tailBytes)
  await using encoded = await encodeQcow2(observed(disk.body, tail.push), {
    write: (chunk) => layer.write(chunk),
    maxVirtualSize,
    spillFolder: scratchFolder,
    pool: clusterPool,
    signal,
  })
  checkEnd(disk.detected, { head: disk.head, tail: tail.bytes(), length: encoded.sourceSize })
  progress.stage('digest')
  const fileSize = encoded.metadataSize + encoded.dataSize
  const written = await layer.finish({
    size: fileSize,
    metadata: { size: encoded.metadataSize, bytes: encoded.metadata() },
  })
  cleanup.move()
  return {
    layer,
    written,
    detected: disk.detected,
    plan,
    virtualSize: encoded.virtualSize,
    diskSize: encoded.sourceSize,
    fileSize,
    contentDigest: encoded.contentDigest,
    encoder: encoderVersion,
    [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
  }
}

function assertVirtualSize(virtualSize: number | undefined, most: number): void {
  if (virtualSize === undefined || virtualSize <= most) return
  throw new CodedError(
    'SIZE_EXCEEDED',
    `the disk has ${virtualSize} bytes, more than the allowed ${most} (maxVirtualSize)`,
  )
}
