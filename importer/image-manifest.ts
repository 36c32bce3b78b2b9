import { digestOf, type Descriptor, type Digest } from '../core/digest.ts'
import type { DiskFormat } from '../core/disk-format.ts'
import { chunkBytes } from '../core/hash-pool.ts'
import { defaultArchitecture, mediaTypes } from '../core/manifest.ts'
import type { WrittenBlob } from '../core/registry.ts'
import type { DiskContents } from '../converter/contents/disk-contents.ts'
import type { Checksums } from './checksums.ts'
import { contentsAnnotations } from './contents-annotations.ts'
import { fileOffset } from './layer-tar.ts'

/** Annotation names of a stored image (`docs/stored-image.md`). */
export const annotations = {
  sourceFormat: 'io.dvcr.source.format',
  source: 'io.dvcr.source',
  sourceSize: 'io.dvcr.source.size',
  validator: 'io.dvcr.source.validator',
  architecture: 'io.dvcr.architecture',
  storedFormat: 'io.dvcr.disk.format',
  virtualSize: 'io.dvcr.disk.virtual-size',
  diskSize: 'io.dvcr.disk.exact-size',
  fileSize: 'io.dvcr.disk.file-size',
  fileOffset: 'io.dvcr.disk.file-offset',
  contentDigest: 'io.dvcr.content-digest',
  encoder: 'io.dvcr.encoder',
  warning: 'io.dvcr.warning',
  /**
   * The blob of chunk digests; also a label of the config. Registries of ours keep a blob that an
   * annotation names as long as the manifest.
   */
  chunks: 'io.dvcr.chunks',
} as const

/** No server needs more to name what it serves. */
const mostValidatorLength = 256

/** What an import learnt of an image; all sizes in bytes. */
export interface ImageFacts {
  readonly sourceLabel: string
  /** Of the source, as it names its content. */
  readonly validator: string | undefined
  /** As transferred, before decompression. */
  readonly sourceSize: number
  readonly sourceFormat: DiskFormat
  readonly storedFormat: DiskFormat
  readonly virtualSize: number
  /** Of the disk as it came, after decompression. */
  readonly diskSize: number
  /** Of the file in the layer. */
  readonly fileSize: number
  readonly layer: WrittenBlob
  readonly contentDigest: Digest | undefined
  readonly encoder: string | undefined
  readonly warning: string | undefined
  readonly checksums: Checksums
  /** What the disk is for, where that is known. */
  readonly architecture: string | undefined
  readonly contents: DiskContents
}

export interface ImageObjects {
  readonly manifest: Uint8Array
  readonly config: Uint8Array
  readonly chunks: Uint8Array
}

/**
 * The small objects of a stored image. Pure: no clock and nothing else that differs between two
 * imports of one source, so that both give one manifest digest.
 */
export function imageObjects(facts: ImageFacts): ImageObjects {
  const chunks = chunkList(facts.layer)
  const config = encode({
    architecture: facts.architecture ?? defaultArchitecture,
    os: 'linux',
    config: {
      Labels: {
        'erofs-compatible-layers': 'true',
        'source-image-format': facts.sourceFormat,
        'source-image-size': String(facts.sourceSize),
        'source-image-virtual-size': String(facts.virtualSize),
        [annotations.chunks]: digestOf(chunks),
      },
    },
    rootfs: { type: 'layers', diff_ids: [facts.layer.digest] },
  })
  const layer: Descriptor = { mediaType: mediaTypes.ociLayer, ...facts.layer }
  const manifest = encode({
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: { mediaType: mediaTypes.ociConfig, digest: digestOf(config), size: config.length },
    layers: [
      {
        mediaType: layer.mediaType,
        digest: layer.digest,
        size: layer.size,
        annotations: { 'org.opencontainers.image.title': 'disk.tar' },
      },
    ],
    annotations: { ...imageAnnotations(facts), [annotations.chunks]: digestOf(chunks) },
  })
  return { manifest, config, chunks }
}

function imageAnnotations(facts: ImageFacts): Record<string, string> {
  const checksums = Object.entries(facts.checksums)
    .filter(([, hex]) => hex !== undefined)
    .map(([algorithm, hex]) => [`${annotations.source}.${algorithm}`, hex])
  const { validator, architecture } = facts
  const known = {
    [annotations.source]: facts.sourceLabel,
    [annotations.sourceFormat]: facts.sourceFormat,
    [annotations.sourceSize]: String(facts.sourceSize),
    [annotations.storedFormat]: facts.storedFormat,
    [annotations.virtualSize]: String(facts.virtualSize),
    [annotations.diskSize]: String(facts.diskSize),
    [annotations.fileSize]: String(facts.fileSize),
    [annotations.fileOffset]: String(fileOffset),
    ...(facts.contentDigest ? { [annotations.contentDigest]: facts.contentDigest } : {}),
    ...(facts.encoder === undefined ? {} : { [annotations.encoder]: facts.encoder }),
    ...(validator === undefined || validator.length > mostValidatorLength
      ? {}
      : { [annotations.validator]: validator }),
    ...(architecture === undefined ? {} : { [annotations.architecture]: architecture }),
    ...contentsAnnotations(facts.contents),
    ...(facts.warning === undefined ? {} : { [annotations.warning]: facts.warning }),
  }
  return { ...known, ...Object.fromEntries(checksums) }
}

/** `DVCRCHK1`, u64be chunk size, u64be layer size, then 32 bytes per chunk. */
function chunkList({ size, chunkDigests }: WrittenBlob): Uint8Array {
  const head = Buffer.alloc(24)
  head.write('DVCRCHK1', 'latin1')
  head.writeBigUInt64BE(BigInt(chunkBytes), 8)
  head.writeBigUInt64BE(BigInt(size), 16)
  return Buffer.concat([head, chunkDigests])
}

function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}
