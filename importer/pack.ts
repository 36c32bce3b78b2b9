import type { Digest } from '../core/digest.ts'
import { CodedError } from '../core/errors.ts'
import type { Repository, WrittenBlob } from '../core/registry.ts'
import { createTail, observed, skipping, type Bytes } from '../core/streams.ts'
import type { ClusterPool } from '../converter/cluster-pool.ts'
import { checkEnd, tailBytes, type Detected } from '../converter/detect.ts'
import type { EncoderState } from '../converter/encoder-state.ts'
import { checkQcow2Complete } from '../converter/qcow2-check.ts'
import { encoderVersion, metadataBound } from '../converter/qcow2-encoder.ts'
import type { RangedFile } from '../converter/ranged-disk.ts'
import { confirmQcow2 } from '../converter/second-opinion.ts'
import { parseQcow2Header } from '../converter/formats/qcow2-header.ts'
import { bounded } from './bounded-disk.ts'
import { encodeDisk } from './encode-disk.ts'
import { createKeeping, type Keeping } from './keeping.ts'
import type { PieceStore } from './layer-pieces.ts'
import { withMissingBytes } from './missing-room.ts'
import { openLayer, type KeptLayer, type LayerWriter } from './layer-writer.ts'
import type { StorePlan } from './plan.ts'
import type { Progress } from './progress.ts'

/** A disk that is read in any order. */
export interface DiskRanges extends RangedFile {
  /** So many more bytes will be read. */
  expect(bytes: number): void
}

/** A disk on its way: decompressed and looked at, not yet read. */
export interface IncomingDisk {
  readonly body: Bytes
  /** Any part of it, where the source can give that and nobody needs to see all of it. */
  readonly ranges: DiskRanges | undefined
  /** Bytes of the disk before `body`: an earlier run has seen them. */
  readonly start: number
  readonly head: Uint8Array
  /** Bytes of the disk, where known. */
  readonly length: number | undefined
  readonly detected: Detected
  /** A length, a checksum or the end of a compression says that all of it came. */
  readonly isProven: boolean
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
  /** What is strange about the disk, for people. */
  readonly warning: string | undefined
}

/** How far a layer is. */
export interface PackState {
  /** Bytes of the disk that are in it. */
  readonly position: number
  readonly layer: KeptLayer
  /** Where it is encoded. */
  readonly encoder: Omit<EncoderState, 'position'> | undefined
  /** `encoderVersion` of the run: another one does not go on with it. */
  readonly version: string
}

export interface PackKeeper extends PieceStore {
  /** Bytes of the disk between two calls. */
  readonly everyBytes: number
  /** The encoder's records are those since the last call. */
  save(state: PackState): Promise<void>
}

export interface PackDeps {
  readonly repository: Repository
  readonly clusterPool: ClusterPool
  readonly scratchFolder: string
  readonly maxVirtualSize: number
  readonly signal: AbortSignal
  readonly progress: Progress
  /** What an earlier run has left of this very disk; its position lies `tailBytes` behind the start. */
  readonly past: PackState | undefined
  readonly keeper: PackKeeper | undefined
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
      pieces: deps.keeper,
      resume: deps.past?.layer,
      signal: deps.signal,
      onPush: deps.progress.pushed,
    }),
  )
  const keeping = createKeeping(layer, deps.keeper)
  cleanup.defer(() => keeping.stop())
  const pack = isCopy ? copy : encode
  let read = disk.start
  const body = observed(bounded(disk), (chunk) => (read += chunk.length))
  const file = await pack({ ...disk, body }, layer, { ...deps, keeping }).catch(
    (error: unknown) => {
      throw withMissingBytes(error, (disk.length ?? disk.detected.virtualSize ?? read) - read)
    },
  )
  await keeping.stop()
  if (plan.storedFormat === 'qcow2') await confirmQcow2({ file: layer.file(), ...file }, deps)
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
  | 'detected'
  | 'written'
  | 'virtualSize'
  | 'diskSize'
  | 'fileSize'
  | 'contentDigest'
  | 'encoder'
  | 'warning'
>

interface Kept {
  readonly keeping: Keeping
}

/** The bytes as they come. */
async function copy(
  { body, start, head, detected, isProven }: IncomingDisk,
  layer: LayerWriter,
  { maxVirtualSize, signal, progress, past, keeping }: PackDeps & Kept,
): Promise<PackedFile> {
  const tail = createTail(tailBytes)
  let size = past?.position ?? 0
  let saved = size
  for await (const chunk of skipping(observed(body, tail.push), size - start)) {
    await layer.write(chunk)
    size += chunk.length
    // A file may be a little larger than its disk: tables, headers, padding.
    assertVirtualSize(size - maxVirtualSize / 16, maxVirtualSize)
    if (!keeping.isDue(size - saved)) continue
    saved = size
    await keeping.save({ position: size, encoder: undefined })
  }
  const warning = checkEnd(detected, { head, tail: tail.bytes(), length: size }, { isProven })
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
    warning,
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
async function encode(
  disk: IncomingDisk,
  layer: LayerWriter,
  deps: PackDeps & Kept,
): Promise<PackedFile> {
  const { body, start, detected } = disk
  const { clusterPool, scratchFolder, maxVirtualSize, signal, progress, past, keeping } = deps
  let diskSize = start
  const file = observed(body, (chunk) => (diskSize += chunk.length))
  await using encoded = await encodeDisk(
    { ...disk, body: file },
    {
      write: (chunk) => layer.write(chunk),
      maxVirtualSize,
      spillFolder: scratchFolder,
      pool: clusterPool,
      signal,
      from: past?.encoder && { ...past.encoder, position: past.position },
      checkpoints: deps.keeper && {
        isDue: keeping.isDue,
        save: ({ position, ...encoder }) => keeping.save({ position, encoder }),
      },
    },
  )
  const { format, virtualSize, metadataSize, dataSize, contentDigest, warning } = encoded
  progress.stage('digest')
  const fileSize = metadataSize + dataSize
  const metadata = { size: metadataSize, bytes: encoded.metadata() }
  return {
    detected: format === detected.format ? detected : { format, virtualSize },
    written: await layer.finish({ size: fileSize, metadata }),
    virtualSize,
    diskSize: disk.length ?? diskSize,
    fileSize,
    contentDigest,
    encoder: encoderVersion,
    warning,
  }
}

function assertVirtualSize(virtualSize: number | undefined, most: number): void {
  if (virtualSize === undefined || virtualSize <= most) return
  throw new CodedError(
    'SIZE_EXCEEDED',
    `the disk has ${virtualSize} bytes, more than the allowed ${most} (maxVirtualSize)`,
  )
}
