import { z } from 'zod'
import { parseDigest, type Descriptor, type Digest } from '../core/digest.ts'
import type { DiskFormat } from '../core/disk-format.ts'
import { CodedError } from '../core/errors.ts'
import { mediaTypes, parseManifest } from '../core/manifest.ts'
import type { Registry, StoredManifest } from '../core/registry.ts'
import type { Checksums } from './checksums.ts'
import { annotations } from './image-manifest.ts'
import type { ImportedImage, ImportRequest } from './import-request.ts'

/** Makes a blob of one repository readable in another; false where it is not there. */
export type MountBlob = (
  digest: Digest,
  options: {
    readonly from: string
    readonly to: string
    readonly mayPull: (name: string) => boolean
  },
) => Promise<boolean>

const size = z
  .string()
  .regex(/^\d{1,15}$/)
  .transform(Number)
const formats: readonly DiskFormat[] = ['raw', 'iso', 'qcow2', 'vmdk', 'vdi', 'vhd', 'vhdx']
const format = z.enum(formats)
const digest = z.string().transform((text, context) => {
  try {
    return parseDigest(text)
  } catch {
    context.addIssue({ code: 'custom', message: 'not a digest' })
    return z.NEVER
  }
})

const notesSchema = z.object({
  [annotations.sourceFormat]: format,
  [annotations.storedFormat]: format,
  [annotations.virtualSize]: size,
  [annotations.architecture]: z.string().optional(),
  [annotations.chunks]: digest,
  [annotations.contentDigest]: digest.optional(),
})

interface StoredImage {
  readonly notes: z.output<typeof notesSchema>
  readonly layer: Descriptor
  /** Layer and config, whose sizes are known. */
  readonly described: readonly Descriptor[]
}

/** What a manifest says of an image that an import made; `undefined` for any other. */
function readStoredImage({ mediaType, bytes }: StoredManifest): StoredImage | undefined {
  if (mediaType !== mediaTypes.ociManifest) return undefined
  const { annotations: said, config, layers = [] } = parseManifest(mediaType, bytes)
  const notes = notesSchema.safeParse(said)
  const [layer, ...others] = layers
  if (!notes.success || !layer || !config || others.length > 0) return undefined
  return { notes: notes.data, layer, described: [layer, config] }
}

export interface CopyDeps {
  readonly registry: Registry
  readonly mountBlob: MountBlob
}

/**
 * Gives an image that an import made another name: its blobs are mounted, no byte is moved. `undefined`
 * where it is no such image, or not complete. That the caller may pull it is settled already. Throws
 * TAG_EXISTS and what a put of a manifest throws.
 */
export async function copyStoredImage(
  stored: { readonly name: string; readonly manifest: StoredManifest },
  { name, tag, replace }: Pick<ImportRequest, 'name' | 'tag' | 'replace'>,
  { registry, mountBlob }: CopyDeps,
  rewrite: (manifest: Uint8Array) => Uint8Array = (manifest) => manifest,
): Promise<ImportedImage | undefined> {
  const image = readStoredImage(stored.manifest)
  if (!image) return undefined
  const { notes, layer, described } = image
  const { blobs, manifests } = registry.repository(name)
  for (const digest of [...described.map((one) => one.digest), notes[annotations.chunks]]) {
    const options = { from: stored.name, to: name, mayPull: () => true }
    if (stored.name !== name && !(await mountBlob(digest, options))) return undefined
    const found = await blobs.stat(digest)
    const expected = described.find((one) => one.digest === digest)?.size ?? found?.size
    if (!found || found.size !== expected) return undefined
  }
  const bytes = rewrite(stored.manifest.bytes)
  const put = await manifests
    .put({ mediaType: mediaTypes.ociManifest, bytes }, { tag, replace })
    .catch((error: unknown) => {
      // It was collected since.
      if (error instanceof CodedError && error.code === 'MANIFEST_BLOB_UNKNOWN') return undefined
      throw error
    })
  return (
    put && {
      name,
      tag,
      digest: put.digest,
      format: notes[annotations.sourceFormat],
      storedFormat: notes[annotations.storedFormat],
      virtualSize: notes[annotations.virtualSize],
      layerDigest: layer.digest,
      storedSize: layer.size,
      architecture: notes[annotations.architecture],
      contentDigest: notes[annotations.contentDigest],
      sourceBytes: 0,
      scratchBytes: 0,
    }
  )
}

/**
 * The same manifest as an import of that source with those checksums makes, which was not asked what
 * it names its content by.
 */
export function withSource(manifest: Uint8Array, label: string, checksums: Checksums): Uint8Array {
  const parsed: unknown = JSON.parse(Buffer.from(manifest).toString())
  const { annotations: notes, ...rest } = z
    .looseObject({ annotations: z.record(z.string(), z.string()) })
    .parse(parsed)
  const isAsked = (key: string): boolean => {
    const [, algorithm] = /^io\.dvcr\.source\.(md5|sha1|sha256|sha512)$/.exec(key) ?? []
    return (
      algorithm === undefined ||
      Object.entries(checksums).some(([one, hex]) => one === algorithm && hex !== undefined)
    )
  }
  const kept = Object.entries(notes).filter(
    ([key]) => isAsked(key) && key !== annotations.validator,
  )
  const changed = Object.fromEntries(
    kept.map(([key, value]) => [key, key === annotations.source ? label : value]),
  )
  return Buffer.from(JSON.stringify({ ...rest, annotations: changed }))
}
