import { z } from 'zod'
import { CodedError } from '../core/errors.ts'
import { isManifestIndex, parseManifest } from '../core/manifest.ts'
import { formatImageReference, parseTag, type ImageReference } from '../core/reference.ts'
import type { Registry, StoredManifest } from '../core/registry.ts'
import { contentsRecordSchema, parseContents } from './contents-annotations.ts'
import { annotations } from './image-manifest.ts'

const bytes = z.int().nonnegative()

/** An image as the API shows it. Disk fields are there for images that an import made. */
export const imageRecordSchema = z.object({
  name: z.string(),
  tag: z.string().optional(),
  digest: z.string(),
  mediaType: z.string(),
  storedSize: bytes.describe('Bytes of all layers.'),
  format: z.string().optional().describe('Format of the source.'),
  storedFormat: z.string().optional(),
  virtualSize: bytes.optional(),
  fileSize: bytes.optional().describe('Bytes of the disk file in the layer.'),
  layerDigest: z.string().optional(),
  contentDigest: z.string().optional(),
  source: z.string().optional(),
  sourceValidator: z.string().optional().describe('ETag or Last-Modified of the source.'),
  architecture: z.string().optional(),
  contents: contentsRecordSchema.optional().describe('What was found on the disk.'),
  warning: z.string().optional().describe('What is strange about the disk.'),
  annotations: z.record(z.string(), z.string()),
})
export type ImageRecord = z.output<typeof imageRecordSchema>

export interface ListImagesOptions {
  /** Only this repository. */
  readonly name?: string | undefined
}

/** The images of a registry: the store of this process, or a server over HTTP. */
export interface Images {
  /** One entry per tag, by name and tag in byte order. */
  list(options: ListImagesOptions): Promise<ImageRecord[]>
  /** Throws IMAGE_UNKNOWN. */
  get(image: ImageReference): Promise<ImageRecord>
  /**
   * A tag: the tag, and with an image's last tag the image. A digest: the image and all its tags.
   * What only it used is removed soon after. Throws IMAGE_UNKNOWN.
   */
  delete(image: ImageReference): Promise<void>
  /** Points `tag` at the image too. Throws IMAGE_UNKNOWN, TAG_INVALID, TAG_EXISTS. */
  tag(
    image: ImageReference,
    tag: string,
    options: { readonly replace: boolean },
  ): Promise<ImageRecord>
}

/** The images of this process's store. */
export interface StoredImages extends Images {
  /** Looks into no repository that `isShown` does not accept. */
  list(
    options: ListImagesOptions & { readonly isShown?: (name: string) => boolean },
  ): Promise<ImageRecord[]>
}

/** `held`: what is listed, where `registry` would look for more elsewhere, as a mirror does. */
export function createImages(
  registry: Registry,
  held: Pick<Registry, 'listRepositories' | 'repository'> = registry,
): StoredImages {
  async function find(image: ImageReference): Promise<StoredManifest> {
    const manifest = await registry.repository(image.name).manifests.get(image.reference)
    if (manifest) return manifest
    throw new CodedError(
      'IMAGE_UNKNOWN',
      `no image ${formatImageReference(image)}; 'dvcr images' lists what there is`,
    )
  }

  return {
    async list({ name, isShown = () => true }) {
      const found: ImageRecord[] = []
      const names = name === undefined ? await held.listRepositories({}) : [name]
      for (const repositoryName of names.filter(isShown)) {
        const repository = held.repository(repositoryName)
        for (const tag of await repository.listTags({}).catch(noneWhereUnknown)) {
          const manifest = await repository.manifests.get({ kind: 'tag', tag })
          if (manifest) found.push(describe(repositoryName, tag, manifest))
        }
      }
      return found
    },
    async get(image) {
      return describe(image.name, tagOf(image), await find(image))
    },
    async delete(image) {
      await find(image)
      const { manifests } = registry.repository(image.name)
      await manifests.delete(image.reference, { reclaim: true })
    },
    async tag(image, text, { replace }) {
      const tag = parseTag(text)
      const manifest = await find(image)
      await registry.repository(image.name).manifests.put(manifest, { tag, replace })
      return describe(image.name, tag, manifest)
    },
  }
}

function noneWhereUnknown(error: unknown): string[] {
  if (error instanceof CodedError && error.code === 'NAME_UNKNOWN') return []
  throw error
}

function tagOf({ reference }: ImageReference): string | undefined {
  return reference.kind === 'tag' ? reference.tag : undefined
}

function describe(name: string, tag: string | undefined, stored: StoredManifest): ImageRecord {
  const manifest = parseManifest(stored.mediaType, stored.bytes)
  const notes = manifest.annotations ?? {}
  // Anyone may push a manifest with any of these.
  const size = (key: string): number | undefined =>
    /^\d{1,15}$/.test(notes[key] ?? '') ? Number(notes[key]) : undefined
  const layers = isManifestIndex(stored.mediaType) ? [] : (manifest.layers ?? [])
  const record = {
    name,
    tag,
    digest: stored.digest,
    mediaType: stored.mediaType,
    storedSize: layers.reduce(
      (sum, layer) => Math.min(sum + layer.size, Number.MAX_SAFE_INTEGER),
      0,
    ),
    format: notes[annotations.sourceFormat],
    storedFormat: notes[annotations.storedFormat],
    virtualSize: size(annotations.virtualSize),
    fileSize: size(annotations.fileSize),
    layerDigest: layers.length === 1 ? layers[0]?.digest : undefined,
    contentDigest: notes[annotations.contentDigest],
    source: notes[annotations.source],
    sourceValidator: notes[annotations.validator],
    architecture: notes[annotations.architecture],
    contents: parseContents(notes),
    warning: notes[annotations.warning],
    annotations: notes,
  }
  const known = Object.entries(record).filter(([, value]) => value !== undefined)
  return imageRecordSchema.parse(Object.fromEntries(known))
}
