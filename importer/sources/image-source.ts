import { z } from 'zod'
import { digestAlgorithm, digestHex, type Descriptor } from '../../core/digest.ts'
import type { ErrorCode } from '../../core/error-codes.ts'
import { CodedError } from '../../core/errors.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import {
  defaultArchitecture,
  isManifestIndex,
  isNonDistributable,
  parseManifest,
} from '../../core/manifest.ts'
import { formatReference, type Reference } from '../../core/reference.ts'
import type { Repository } from '../../core/registry.ts'
import { pause } from '../../core/retry.ts'
import { peek, type Bytes } from '../../core/streams.ts'
import { isTarHead, tarHeadBytes } from '../../core/tar-reader.ts'
import { verified } from '../checksums.ts'
import { decompress } from '../decoders/decompress.ts'
import { onlyFile } from '../only-file.ts'
import { createSpeedMeter, defaultFloorSpeed, tooSlow, type FloorSpeed } from './floor-speed.ts'
import { connectionError } from './http-errors.ts'
import type { Source } from './source.ts'
import { diskFiles } from './layer-files.ts'

/** What is read of a repository. */
export interface ImageReader {
  readonly manifests: Pick<Repository['manifests'], 'get'>
  readonly blobs: Pick<Repository['blobs'], 'read'>
}

export interface ImageSourceOptions {
  readonly label: string
  readonly reference: Reference
  /** Of an image for several; `amd64` unless given. */
  readonly architecture?: string | undefined
  readonly hashPool: HashPool
  readonly signal: AbortSignal
  /** Waits before the next try, ms; one more try than entries. Reset by every byte that arrives. */
  readonly retryDelaysMs: readonly number[]
  /** Bytes of the largest disk: what bounds the unpacking of a layer. */
  readonly maxVirtualSize: number
  /** Other than `defaultFloorSpeed`. */
  readonly floorSpeed?: FloorSpeed | undefined
}

type Layer = Descriptor & { readonly urls?: string[] | undefined }

const deepestIndex = 2

/**
 * The disk in a container image: the one file in its `/disk`, or the one layer of an artifact that
 * is the disk itself. Layers are read from the topmost down, as far as they can hide or add a disk,
 * each to its end and compared with its digest. Throws SOURCE_NOT_FOUND where there is no such
 * image, platform or disk, SOURCE_DENIED, SOURCE_UNAVAILABLE, SOURCE_INVALID, CHECKSUM_MISMATCH,
 * and what `diskFiles` and `decompress` throw. The reader is the caller's to close.
 */
export async function openImageSource(
  reader: ImageReader,
  options: ImageSourceOptions,
): Promise<Source> {
  const { label } = options
  const layers = await findLayers(reader, options)
  const [only] = layers
  if (only && layers.length === 1) {
    const plain = await openLayer(only, reader, options)
    const { head, rest } = await peek(plain, tarHeadBytes)
    const isWhole = !isTarHead(head)
    return isWhole
      ? sourceOf(label, rest, undefined)
      : diskSource(
          diskFiles(1, () => rest),
          label,
        )
  }
  const open = (index: number): Bytes => layerAt(layers[index], reader, options)
  return diskSource(diskFiles(layers.length, open), label)
}

async function* layerAt(
  layer: Layer | undefined,
  reader: ImageReader,
  options: ImageSourceOptions,
): AsyncGenerator<Uint8Array, void> {
  if (layer) yield* await openLayer(layer, reader, options)
}

function sourceOf(
  label: string,
  body: AsyncGenerator<Uint8Array, void>,
  length: number | undefined,
): Source {
  return {
    label,
    length,
    pin: undefined,
    offset: 0,
    body,
    [Symbol.asyncDispose]: async () => void (await body.return()),
  }
}

async function diskSource(files: ReturnType<typeof diskFiles>, label: string): Promise<Source> {
  const { contents, size } = await onlyFile(files, (first, second) =>
    first && second
      ? new CodedError(
          'FORMAT_UNSUPPORTED',
          `${label} has more than one file in /disk: ${first.name} and ${second.name}`,
        )
      : new CodedError(
          'SOURCE_NOT_FOUND',
          `${label} has no file in /disk; expected a container disk, with the disk as the one file there`,
        ),
  )
  const source = sourceOf(label, contents, size)
  return {
    ...source,
    async [Symbol.asyncDispose]() {
      await source[Symbol.asyncDispose]()
      await files.return()
    },
  }
}

const platform = z.looseObject({
  platform: z.looseObject({ architecture: z.string(), os: z.string().optional() }).optional(),
})

/** The layers of the image for that architecture, the lowest first. */
async function findLayers(
  { manifests }: ImageReader,
  { label, reference, architecture = defaultArchitecture, signal }: ImageSourceOptions,
): Promise<readonly Layer[]> {
  let at = reference
  for (let depth = 0; depth <= deepestIndex; depth++) {
    const found = await manifests.get(at).catch((error: unknown) => {
      signal.throwIfAborted()
      throw toSourceError(error, label)
    })
    if (!found) {
      throw new CodedError('SOURCE_NOT_FOUND', `${label}: no manifest ${formatReference(at)}`)
    }
    const type = found.mediaType.split(';', 1)[0]?.trim() ?? ''
    const { manifests: entries = [], layers = [] } = parseManifest(type, found.bytes)
    if (!isManifestIndex(type)) return layers.map((layer) => required(layer, label))
    const known = entries.map((entry) => ({ entry, for: platform.parse(entry).platform }))
    const fitting =
      known.find((one) => one.for?.architecture === architecture) ??
      (known.length === 1 && !known[0]?.for ? known[0] : undefined)
    if (!fitting) {
      const has = known.flatMap((one) => one.for?.architecture ?? []).join(', ')
      throw new CodedError(
        'SOURCE_NOT_FOUND',
        `${label} has no image for ${architecture}; it has: ${has === '' ? 'none' : has}`,
      )
    }
    at = { kind: 'digest', digest: fitting.entry.digest }
  }
  throw new CodedError(
    'SOURCE_INVALID',
    `${label}: indexes in indexes, more than ${deepestIndex} deep`,
  )
}

/** A layer whose bytes lie elsewhere would make us ask where the image says. */
function required(layer: Layer, label: string): Layer {
  if ((layer.urls ?? []).length === 0 && !isNonDistributable(layer)) return layer
  throw new CodedError(
    'IMAGE_UNSAFE',
    `${label}: the layer ${layer.digest} is not on the registry but behind addresses of its own; refused`,
  )
}

/** The layer unwrapped; compared with its digest where it ends. */
async function openLayer(
  layer: Layer,
  { blobs }: ImageReader,
  options: ImageSourceOptions,
): Promise<AsyncGenerator<Uint8Array, void>> {
  const { hashPool, label } = options
  const { digest } = layer
  const checked = verified(
    readLayer(layer, blobs, options),
    { [digestAlgorithm(digest)]: digestHex(digest) },
    { hashPool, label: `the layer ${digest} of ${label}` },
  )
  return (await decompress(checked, options)).body
}

/** Exactly the bytes that its descriptor says; goes on where a connection breaks. */
async function* readLayer(
  { digest, size }: Layer,
  blobs: ImageReader['blobs'],
  { label, signal, retryDelaysMs, floorSpeed = defaultFloorSpeed }: ImageSourceOptions,
): AsyncGenerator<Uint8Array, void> {
  const meter = createSpeedMeter(floorSpeed)
  let position = 0
  let failures = 0
  let slowWindows = 0
  while (position < size) {
    try {
      const range = position === 0 ? undefined : { start: position, end: size }
      meter.wait()
      for await (const chunk of blobs.read(digest, { range, signal })) {
        const speed = meter.got(chunk.length)
        position += chunk.length
        if (position > size) throw wrongSize(digest, size, label)
        yield chunk
        meter.wait()
        if (speed === 'fine') slowWindows = 0
        failures = speed === 'slow' ? slowWindows++ : 0
        if (speed === 'slow' && position < size) throw tooSlow(label, floorSpeed)
      }
      if (position < size) {
        throw new CodedError(
          'SOURCE_TRUNCATED',
          `${label}: ${digest} ended at ${position} of ${size}`,
        )
      }
    } catch (error) {
      signal.throwIfAborted()
      const failure = toSourceError(error, label)
      const delayMs = retryDelaysMs[failures++]
      if (!failure.retryable || delayMs === undefined) throw failure
      await pause(delayMs, signal)
    }
  }
}

const wrongSize = (digest: string, size: number, label: string): CodedError =>
  new CodedError(
    'SOURCE_INVALID',
    `${label}: the layer ${digest} is longer than the ${size} bytes said`,
  )

/** What a registry that is read from answers, as a failure of the source. */
function toSourceError(error: unknown, label: string): CodedError {
  if (!(error instanceof CodedError)) {
    return new CodedError('SOURCE_UNAVAILABLE', `cannot read ${label}: ${String(error)}`, {
      cause: error,
    })
  }
  const tls = connectionError(error.cause, label)
  if (tls.code === 'SOURCE_TLS_INVALID') return tls
  const code = sourceCodes[error.code]
  if (code === undefined) return error
  return new CodedError(code, `cannot read ${label}: ${error.message}`, { cause: error })
}

/** What others say of themselves, and what that is to an import. */
const sourceCodes: { readonly [Code in ErrorCode]?: ErrorCode } = {
  UNAUTHORIZED: 'SOURCE_DENIED',
  DENIED: 'SOURCE_DENIED',
  BLOB_UNKNOWN: 'SOURCE_NOT_FOUND',
  MANIFEST_UNKNOWN: 'SOURCE_NOT_FOUND',
  NAME_UNKNOWN: 'SOURCE_NOT_FOUND',
  TARGET_UNAVAILABLE: 'SOURCE_UNAVAILABLE',
  TOOMANYREQUESTS: 'SOURCE_UNAVAILABLE',
  UNAVAILABLE: 'SOURCE_UNAVAILABLE',
}
