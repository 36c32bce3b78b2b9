import type { Dispatcher } from 'undici'
import { z } from 'zod'
import { digestAlgorithm, digestOf, parseDigest, type Digest } from '../../core/digest.ts'
import { mediaTypes, parseManifest } from '../../core/manifest.ts'
import { formatReference, isTag, type Reference } from '../../core/reference.ts'
import type { StoredManifest } from '../../core/registry.ts'
import type { Bytes } from '../../core/streams.ts'
import { manifestLimitBytes, type Referrer } from '../manifests.ts'
import { readUpstreamBlob, type BlobTransfer } from './upstream-blob.ts'
import type { UpstreamRequests } from './upstream-request.ts'

/** What is longer is cut off: the upstream's fault must not cost our memory. */
const mostPages = 1000
/** Whoever asks what a tag is now has something to serve where there is no answer. */
const resolvePatienceMs = 10_000
const pageLimitBytes = 8 * 1024 * 1024
const listLimitBytes = 64 * 1024 * 1024

const manifestTypes = [
  mediaTypes.ociManifest,
  mediaTypes.ociIndex,
  mediaTypes.dockerManifest,
  mediaTypes.dockerList,
].join(', ')

/** One repository of the upstream; `undefined` where that has no such thing. */
export interface UpstreamRepository {
  /** The digest that a tag has now; `'unsaid'` where the upstream does not tell without the bytes. */
  resolve(tag: string): Promise<Digest | 'unsaid' | undefined>
  /** A manifest whose bytes have the digest it comes with. */
  getManifest(reference: Reference): Promise<StoredManifest | undefined>
  statBlob(digest: Digest): Promise<{ readonly size: number } | undefined>
  /**
   * Bytes of a blob as they come: whoever takes them verifies them. A transfer that breaks is
   * continued by range. A chunk is valid until the next one is asked for.
   */
  readBlob(digest: Digest, transfer: BlobTransfer): Bytes
  /** All tags, in the upstream's order. */
  listTags(): Promise<string[] | undefined>
  /** All that name the subject; also `undefined` where the upstream has no such listings. */
  listReferrers(subject: Digest): Promise<Referrer[] | undefined>
}

export function createUpstreamRepository(
  name: string,
  requests: UpstreamRequests,
): UpstreamRepository {
  const root = `/v2/${name}`

  return {
    async resolve(tag) {
      const path = `${root}/manifests/${tag}`
      const response = await requests.send(path, {
        method: 'HEAD',
        headers: { accept: manifestTypes },
        accept: [200, 404, 405],
        patienceMs: resolvePatienceMs,
      })
      await response.body.dump()
      if (response.statusCode === 404) return undefined
      return response.statusCode === 200 ? saidDigest(response) : 'unsaid'
    },
    async getManifest(reference) {
      const path = `${root}/manifests/${formatReference(reference)}`
      const headers = { accept: manifestTypes }
      const response = await requests.send(path, { method: 'GET', headers, accept: [200, 404] })
      try {
        const bytes = await readAtMost(response.body, manifestLimitBytes)
        if (response.statusCode === 404) return undefined
        return verified(reference, bytes, response)
      } catch (error) {
        throw requests.failed(error, path)
      }
    },
    async statBlob(digest) {
      const path = `${root}/blobs/${digest}`
      const response = await requests.send(path, { method: 'HEAD', accept: [200, 404] })
      await response.body.dump()
      if (response.statusCode === 404) return undefined
      const size = Number(response.headers['content-length'] ?? NaN)
      if (Number.isSafeInteger(size) && size >= 0) return { size }
      throw requests.failed(new Error('it does not say how long the blob is'), path)
    },
    readBlob: (digest, transfer) => readUpstreamBlob(`${root}/blobs/${digest}`, requests, transfer),
    listTags: () => readPages(`${root}/tags/list?n=1000`, requests, tagsIn),
    listReferrers: (subject) => readPages(`${root}/referrers/${subject}`, requests, referrersIn),
  }
}

/** All entries of a listing; `undefined` where the upstream has no such listing. */
async function readPages<T>(
  path: string,
  requests: UpstreamRequests,
  read: (body: unknown) => T[],
): Promise<T[] | undefined> {
  const entries: T[] = []
  let next: string | undefined = path
  let left = listLimitBytes
  for (let pages = 0; next !== undefined && left > 0 && pages < mostPages; pages++) {
    const at: string = next
    const response = await requests.send(at, { method: 'GET', accept: [200, 404] })
    try {
      const bytes = await readAtMost(response.body, pageLimitBytes)
      if (response.statusCode === 404) return undefined
      left -= bytes.length
      entries.push(...read(JSON.parse(Buffer.from(bytes).toString())))
    } catch (error) {
      throw requests.failed(error, at)
    }
    next = /<([^>]+)>;\s*rel="?next"?/.exec(String(response.headers['link'] ?? ''))?.[1]
  }
  return entries
}

function saidDigest({ headers }: Dispatcher.ResponseData): Digest | 'unsaid' {
  const said = headers['docker-content-digest']
  try {
    return parseDigest(String(said))
  } catch {
    // Some registries leave the header out, or name an algorithm that we do not have.
    return 'unsaid'
  }
}

/** Throws where the bytes are not what was asked for, not what was said, or no manifest. */
function verified(
  reference: Reference,
  bytes: Uint8Array,
  response: Dispatcher.ResponseData,
): StoredManifest {
  const said = saidDigest(response)
  const expected = reference.kind === 'digest' ? reference.digest : said
  const algorithm = expected === 'unsaid' ? 'sha256' : digestAlgorithm(expected)
  const digest = digestOf(bytes, algorithm)
  if (expected !== 'unsaid' && digest !== expected) {
    throw new Error(`it sent ${digest} where ${expected} was expected`)
  }
  const mediaType = String(response.headers['content-type'] ?? '').split(';', 1)[0] ?? ''
  parseManifest(mediaType, bytes)
  return { bytes, mediaType, digest, size: bytes.length }
}

async function readAtMost(
  body: AsyncIterable<Uint8Array>,
  limitBytes: number,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size > limitBytes)
      throw new Error(`it sends more than the ${limitBytes} bytes that are taken`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

const tagList = z.looseObject({ tags: z.array(z.string()).nullish() })

/** What is no tag nobody could ask us for. */
function tagsIn(body: unknown): string[] {
  return [...new Set(tagList.parse(body).tags?.filter(isTag))]
}

const referrerList = z.looseObject({
  manifests: z.array(
    z.object({
      mediaType: z.string(),
      digest: z.string().transform((text) => parseDigest(text)),
      size: z.int().nonnegative(),
      artifactType: z.string().optional(),
      annotations: z.record(z.string(), z.string()).optional(),
    }),
  ),
})

function referrersIn(body: unknown): Referrer[] {
  return referrerList.parse(body).manifests
}
