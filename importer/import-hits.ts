import { createHash } from 'node:crypto'
import { z } from 'zod'
import { encoderVersion } from '../converter/qcow2-encoder.ts'
import { parseDigest } from '../core/digest.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { parseName } from '../core/reference.ts'
import { checksumAlgorithms } from './checksums.ts'
import type { ImportedImage, ImportRequest } from './import-request.ts'
import { storeModes } from './plan.ts'
import { copyStoredImage, withSource, type CopyDeps } from './stored-image.ts'

type Wanted = Pick<
  ImportRequest,
  'name' | 'tag' | 'replace' | 'store' | 'architecture' | 'checksums'
>

/** Those that nobody can make a second content for. */
const strong = ['sha256', 'sha512'] as const

/** Images looked at for one that the caller may pull. */
const mostLookedAt = 200

const hitSchema = z.object({
  name: z.string().transform((text) => parseName(text)),
  /** Of the manifest. */
  digest: z.string().transform((text) => parseDigest(text)),
  store: z.enum(storeModes),
  architecture: z.string().optional(),
  encoder: z.string(),
  /** All that were compared with what was transferred. */
  checksums: z.record(z.enum(checksumAlgorithms), z.string().optional()),
})

const folderOf = (algorithm: string, hex: string): string => `v1/imports-hits/${algorithm}/${hex}/`

/** Remembers that an import has made an image of a source with checksums that were compared. */
export async function rememberImage(
  objects: ObjectStore,
  { store, architecture, checksums }: Wanted,
  { name, digest }: Pick<ImportedImage, 'name' | 'digest'>,
): Promise<void> {
  const hit = { name, digest, store, architecture, encoder: encoderVersion, checksums }
  const what = JSON.stringify([name, store, architecture])
  const id = createHash('sha256').update(what).digest('hex')
  for (const algorithm of strong) {
    const hex = checksums[algorithm]
    if (hex === undefined) continue
    const key = `${folderOf(algorithm, hex)}${id}.json`
    await objects.put(key, Buffer.from(JSON.stringify(hit)), 'always')
  }
}

export interface FindDeps extends CopyDeps {
  readonly objects: ObjectStore
  /** Whether the caller may pull from a repository. */
  readonly mayPull: (name: string) => boolean
}

/**
 * Makes the image without a transfer, where one was made before of a source with the same sha256 or
 * sha512, in a repository that the caller may pull from, as it would be made now. Every checksum that
 * is asked for must have been compared then. `label`: what the source is called now.
 */
export async function reuseImage(
  wanted: Wanted,
  label: string,
  { objects, mayPull, ...deps }: FindDeps,
): Promise<ImportedImage | undefined> {
  const { checksums, store, architecture } = wanted
  const asked = checksumAlgorithms.filter((algorithm) => checksums[algorithm] !== undefined)
  const algorithm = strong.find((one) => asked.includes(one))
  const hex = algorithm && checksums[algorithm]
  if (algorithm === undefined || hex === undefined) return undefined
  for (const key of await objects.list(folderOf(algorithm, hex), { limit: mostLookedAt })) {
    const kept = await objects.get(key)
    const hit = kept && readHit(kept.bytes)
    if (!hit || !mayPull(hit.name)) continue
    const isAlike = hit.store === store && hit.architecture === architecture
    const isCompared = asked.every((one) => hit.checksums[one] === checksums[one])
    if (!isAlike || !isCompared || hit.encoder !== encoderVersion) continue
    const reference = { kind: 'digest', digest: hit.digest } as const
    const manifest = await deps.registry.repository(hit.name).manifests.get(reference)
    const image =
      manifest &&
      (await copyStoredImage({ name: hit.name, manifest }, wanted, deps, (bytes) =>
        withSource(bytes, label, checksums),
      ))
    if (image) return image
    // Deleted since, or damaged: nobody need look at it again.
    await objects.delete(key, { ifMatch: kept.etag })
  }
  return undefined
}

function readHit(bytes: Uint8Array): z.output<typeof hitSchema> | undefined {
  try {
    return hitSchema.parse(JSON.parse(Buffer.from(bytes).toString()))
  } catch {
    // Of another version: as good as none.
    return undefined
  }
}
