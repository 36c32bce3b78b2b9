import { z } from 'zod'
import { digestAlgorithm, digestHex, parseDigest, type Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import { parseName } from '../../core/reference.ts'
import type { RefuseTar } from '../../core/tar-reader.ts'
import { whyNot } from './see.ts'

/** What an archive begins with; another number for what older versions cannot read. */
export const archiveFormat = 1
export const archiveStart = z.object({
  format: z.int(),
  createdAt: z.iso.datetime(),
})

const digest = z.string().transform((text) => parseDigest(text))

/** One repository as the archive has it, at the end of what it needs. */
export const archivedRepository = z.object({
  name: z.string().transform((text) => parseName(text)),
  /** What it may read. */
  blobs: z.array(digest),
  manifests: z.array(
    z.object({ digest, mediaType: z.string(), partial: z.literal(true).optional() }),
  ),
  tags: z.array(z.object({ tag: z.string(), digest })),
})
export type ArchivedRepository = z.output<typeof archivedRepository>

/** Something that was there and is not in the archive, or in the archive and not in the store. */
export const leftOut = z.object({
  repository: z.string(),
  /** A digest or tag. */
  what: z.string(),
  why: z.string(),
})
export type LeftOut = z.output<typeof leftOut>

/** What an archive ends with: without it, it is not whole. */
export const archiveIndex = z.object({
  repositories: z.int(),
  blobs: z.int(),
  manifests: z.int(),
  tags: z.int(),
  /** Of all blobs. */
  bytes: z.int(),
  /** Damaged in the store. What was removed while the archive was made is not among them. */
  leftOut: z.array(leftOut),
  /** Entries whose bytes are not the blob: it went, or was damaged, while it was read. */
  void: z.array(digest),
})
export type ArchiveIndex = z.output<typeof archiveIndex>

/**
 * The names of an archive's entries. A folder `repositories/<name>/` begins the part of a
 * repository; blobs and manifests are there once, in the first part that needs them.
 */
export const entryNames = {
  start: 'dvcr-export.json',
  index: 'index.json',
  folder: (name: string) => `repositories/${name}/`,
  // No part of a repository's name begins with `_`.
  repository: (name: string) => `repositories/${name}/_repository.json`,
  blob: (digest: Digest) => `blobs/${digestAlgorithm(digest)}/${digestHex(digest)}`,
  manifest: (digest: Digest) => `manifests/${digestAlgorithm(digest)}/${digestHex(digest)}`,
} as const

export type ArchiveEntry =
  | { readonly kind: 'start' | 'index' }
  | { readonly kind: 'folder' | 'repository'; readonly name: string }
  | { readonly kind: 'blob' | 'manifest'; readonly digest: Digest }

/** `undefined` for a name that no entry of ours has. */
export function parseEntryName(entry: string): ArchiveEntry | undefined {
  const text = entry.replace(/^\.\//, '')
  if (text === entryNames.start) return { kind: 'start' }
  if (text === entryNames.index) return { kind: 'index' }
  const [, kind, algorithm, hex] =
    /^(blob|manifest)s\/(sha256|sha512)\/([0-9a-f]+)$/.exec(text) ?? []
  const [, name, file] = /^repositories\/(.+)\/(_repository\.json)?$/.exec(text) ?? []
  try {
    if (kind !== undefined) {
      const digest = parseDigest(`${algorithm}:${hex}`)
      return { kind: kind === 'blob' ? 'blob' : 'manifest', digest }
    }
    if (name === undefined) return undefined
    return { kind: file === undefined ? 'folder' : 'repository', name: parseName(name) }
  } catch {
    // Looks like one of ours and names nothing that there can be.
    return undefined
  }
}

/** The refusal of an archive that cannot be imported as it is. */
export function invalidArchive(why: string, cause?: unknown): CodedError {
  return new CodedError('ARCHIVE_INVALID', `cannot import this archive: ${why}`, { cause })
}

/** What a tar that is no archive is refused with. */
export const refuseTar: RefuseTar = (cause, { isCut }) =>
  invalidArchive(isCut ? 'it is cut off in the middle; nothing was tagged' : whyNot(cause), cause)
