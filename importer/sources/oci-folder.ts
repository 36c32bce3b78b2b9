import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { z } from 'zod'
import {
  digestAlgorithm,
  digestHex,
  digestOf,
  parseDigest,
  type Digest,
} from '../../core/digest.ts'
import { CodedError, hasErrno } from '../../core/errors.ts'
import { mediaTypeOf } from '../../core/manifest.ts'
import { parseReference } from '../../core/reference.ts'
import type { Source } from './source.ts'
import { openImageSource, type ImageReader, type ImageSourceOptions } from './image-source.ts'

export const ociScheme = 'oci:'

const refName = 'org.opencontainers.image.ref.name'

const index = z.looseObject({
  manifests: z.array(
    z.looseObject({
      mediaType: z.string(),
      digest: z.string().transform((text) => parseDigest(text)),
      size: z.int().nonnegative(),
      annotations: z.record(z.string(), z.string()).optional(),
    }),
  ),
})

/**
 * `oci:folder[:tag]`, for the command line only: without a tag the one image that there is. Throws as
 * `openImageSource`. @see OCI image-spec image-layout.md
 */
export async function openOciFolder(
  text: string,
  options: Omit<ImageSourceOptions, 'label' | 'reference'>,
): Promise<Source> {
  const rest = text.slice(ociScheme.length)
  const colon = rest.lastIndexOf(':')
  // A colon in a folder's name belongs to it, where a slash follows.
  const hasTag = colon > rest.lastIndexOf('/')
  const folder = hasTag ? rest.slice(0, colon) : rest
  const tag = hasTag ? rest.slice(colon + 1) : undefined
  const label = `${ociScheme}${basename(folder)}${tag === undefined ? '' : `:${tag}`}`
  const { manifests } = await readIndex(folder, label)
  const named = manifests.filter(({ annotations }) => annotations?.[refName] === tag)
  const [found, another] = tag === undefined ? manifests : named
  if (!found || another) {
    const tags = manifests.flatMap(({ annotations }) => annotations?.[refName] ?? []).join(', ')
    throw new CodedError(
      'SOURCE_NOT_FOUND',
      `${label}: ${found ? 'more than one image' : 'no such image'}; its tags are: ${tags === '' ? 'none' : tags}`,
    )
  }
  const reference = parseReference(found.digest)
  return openImageSource(createReader(folder, label, manifests), { ...options, label, reference })
}

async function readIndex(folder: string, label: string): Promise<z.output<typeof index>> {
  const path = join(folder, 'index.json')
  try {
    return index.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch (error) {
    const code = hasErrno(error, 'ENOENT') ? 'SOURCE_NOT_FOUND' : 'SOURCE_INVALID'
    throw new CodedError(code, `${label} is no folder with an OCI image: cannot read index.json`, {
      cause: error,
    })
  }
}

function createReader(
  folder: string,
  label: string,
  known: z.output<typeof index>['manifests'],
): ImageReader {
  const pathOf = (digest: Digest): string =>
    join(folder, 'blobs', digestAlgorithm(digest), digestHex(digest))

  return {
    manifests: {
      async get(reference) {
        if (reference.kind === 'tag') return undefined
        const { digest } = reference
        const bytes = await readFile(pathOf(digest)).catch((error: unknown) => {
          if (hasErrno(error, 'ENOENT')) return undefined
          throw error
        })
        if (!bytes) return undefined
        if (digestOf(bytes, digestAlgorithm(digest)) !== digest) {
          throw new CodedError('DIGEST_INVALID', `${label}: the manifest ${digest} is damaged`)
        }
        const said = known.find((one) => one.digest === digest)?.mediaType
        return { bytes, digest, size: bytes.length, mediaType: said ?? mediaTypeOf(bytes) ?? '' }
      },
    },
    blobs: {
      async *read(digest, { range, signal }) {
        const { start, end = Infinity } = range ?? { start: 0 }
        const last = end === Infinity ? {} : { end: end - 1 }
        const file = createReadStream(pathOf(digest), { start, ...last, signal })
        try {
          for await (const chunk of file) if (chunk instanceof Uint8Array) yield chunk
        } catch (error) {
          signal.throwIfAborted()
          const code = hasErrno(error, 'ENOENT') ? 'SOURCE_NOT_FOUND' : 'SOURCE_INVALID'
          throw new CodedError(code, `${label}: cannot read ${digest}`, { cause: error })
        }
      },
    },
  }
}
