import { z } from 'zod'
import { parseDigest } from './digest.ts'
import { CodedError } from './errors.ts'

export const mediaTypes = {
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
} as const

/** What an image is for that does not say. */
export const defaultArchitecture = 'amd64'

const digest = z.string().transform((text) => parseDigest(text))

const descriptor = z.looseObject({
  mediaType: z.string().min(1),
  digest,
  size: z.int().nonnegative(),
  urls: z.array(z.string()).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
})

const manifest = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  artifactType: z.string().optional(),
  config: descriptor.optional(),
  layers: z.array(descriptor).optional(),
  manifests: z.array(descriptor).optional(),
  subject: descriptor.optional(),
  annotations: z.record(z.string(), z.string()).optional(),
})
/** The parts of an OCI manifest or index, or their Docker v2s2 forms, that we read. */
export type Manifest = z.output<typeof manifest>

const indexTypes: readonly string[] = [mediaTypes.ociIndex, mediaTypes.dockerList]
const known: readonly string[] = [mediaTypes.ociManifest, mediaTypes.dockerManifest, ...indexTypes]

/** What the manifest says it is; `undefined` where it does not say, or is none. */
export function mediaTypeOf(bytes: Uint8Array): string | undefined {
  try {
    const said = z.object({ mediaType: z.string() })
    return said.parse(JSON.parse(Buffer.from(bytes).toString())).mediaType
  } catch {
    // Whoever reads the whole manifest says what is wrong with it.
    return undefined
  }
}

/**
 * Reads a manifest; the bytes themselves are what is stored and hashed, never this.
 * Throws MANIFEST_INVALID where the media type is not a manifest's, differs from the one inside,
 * or the shape is wrong. @see OCI image-spec manifest.md, image-index.md
 */
export function parseManifest(mediaType: string, bytes: Uint8Array): Manifest {
  const invalid = (why: string, cause?: unknown): CodedError =>
    new CodedError('MANIFEST_INVALID', `not a manifest of type ${mediaType}: ${why}`, { cause })
  if (!known.includes(mediaType)) throw invalid(`the type must be one of ${known.join(', ')}`)
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw invalid('not JSON', error)
  }
  let parsed: Manifest
  try {
    refuseExcess(json)
    parsed = manifest.parse(json)
  } catch (error) {
    throw invalid(error instanceof z.ZodError ? z.prettifyError(error) : String(error), error)
  }
  if (parsed.mediaType !== undefined && parsed.mediaType !== mediaType) {
    throw invalid(`it says it is ${parsed.mediaType}`)
  }
  if (isManifestIndex(mediaType)) {
    if (!parsed.manifests) throw invalid('an index needs "manifests"')
  } else if (!parsed.config || !parsed.layers) {
    throw invalid('an image manifest needs "config" and "layers"')
  }
  return parsed
}

/** Annotations; far more than any image has. Every reader of the manifest works on all of them. */
const mostEntries = 10_000

/** Throws where annotations are so many that every reader would stand still over them. */
function refuseExcess(json: unknown): void {
  if (typeof json !== 'object' || json === null) return
  for (const [name, value] of Object.entries(json)) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) continue
    const { length } = Object.keys(value)
    if (length > mostEntries) {
      throw new Error(`${name} has ${length} entries, more than ${mostEntries} are not taken`)
    }
  }
}

/** True for an OCI index or a Docker manifest list. */
export function isManifestIndex(mediaType: string): boolean {
  return indexTypes.includes(mediaType)
}

/** True for layers that stay where they are and are never pushed. */
export function isNonDistributable({ mediaType }: { readonly mediaType: string }): boolean {
  return mediaType.includes('nondistributable') || mediaType.includes('foreign')
}
