import { digestOf } from '../core/digest.ts'
import { mediaTypes } from '../core/manifest.ts'
import { tagExists, type Repository } from '../core/registry.ts'
import type { Report } from '../core/report.ts'
import { imageObjects } from './image-manifest.ts'
import type { ImportedImage, ImportRequest } from './import-request.ts'
import { chooseArchitecture, lookInside } from './look-inside.ts'
import type { PackedDisk } from './pack.ts'
import type { Progress } from './progress.ts'
import type { Source } from './sources/source.ts'

type Asked = Pick<ImportRequest, 'name' | 'tag' | 'replace' | 'checksums' | 'architecture'>

export interface PushOptions extends Asked {
  readonly repository: Repository
  readonly source: Pick<Source, 'label' | 'pin' | 'length'>
  readonly signal: AbortSignal
  readonly progress: Progress
  readonly report: Report
}

/**
 * Makes a packed disk an image: layer, chunk list, config, then the manifest and its tag, the one
 * step that makes it visible. Throws TAG_EXISTS where the tag was taken meanwhile.
 */
export async function pushImage(packed: PackedDisk, options: PushOptions): Promise<ImportedImage> {
  const { repository, signal, progress } = options
  const before = packed.layer.isKept ? await lookInside(packed) : undefined
  // To another registry this is the stage `push`, which comes before.
  await packed.layer.commit()
  progress.stage('commit')
  const contents = before ?? (await lookInside(packed))
  const { architecture, warning } = chooseArchitecture(options.architecture, contents.architecture)
  if (warning !== undefined) options.report({ type: 'warning', message: warning })
  const objects = imageObjects({
    sourceLabel: options.source.label,
    validator: options.source.pin,
    // Of a disk that is read by its tables not all was transferred.
    sourceSize: options.source.length ?? progress.sourceBytes,
    sourceFormat: packed.detected.format,
    storedFormat: packed.plan.storedFormat,
    virtualSize: packed.virtualSize,
    diskSize: packed.diskSize,
    fileSize: packed.fileSize,
    layer: packed.written,
    contentDigest: packed.contentDigest,
    encoder: packed.encoder,
    warning: packed.warning,
    checksums: options.checksums,
    architecture,
    contents,
  })
  for (const bytes of [objects.chunks, objects.config]) await putBlob(repository, bytes, signal)
  const { digest } = await repository.manifests.put(
    { mediaType: mediaTypes.ociManifest, bytes: objects.manifest },
    { tag: options.tag, replace: options.replace },
  )
  return {
    name: options.name,
    tag: options.tag,
    digest,
    format: packed.detected.format,
    storedFormat: packed.plan.storedFormat,
    architecture,
    virtualSize: packed.virtualSize,
    layerDigest: packed.written.digest,
    storedSize: packed.written.size,
    contentDigest: packed.contentDigest,
    sourceBytes: progress.sourceBytes,
    scratchBytes: packed.written.scratchBytes,
  }
}

/** Refuses early what `pushImage` would refuse after the whole transfer. */
export async function assertTagFree(
  repository: Repository,
  { tag, replace }: Pick<ImportRequest, 'tag' | 'replace'>,
): Promise<void> {
  if (replace) return
  const existing = await repository.manifests.get({ kind: 'tag', tag })
  if (existing) throw tagExists(repository.name, tag, existing.digest)
}

async function putBlob(
  repository: Repository,
  bytes: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  if (await repository.blobs.stat(digestOf(bytes))) return
  const blob = await repository.blobs.create({ signal, expectedBytes: bytes.length })
  try {
    await blob.write(bytes)
    await blob.finish()
    await blob.commit()
  } finally {
    await blob.abort()
  }
}
