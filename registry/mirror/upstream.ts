import type { Dispatcher } from 'undici'
import { digestAlgorithm, digestOf, parseDigest, type Digest } from '../../core/digest.ts'
import { mediaTypes, parseManifest } from '../../core/manifest.ts'
import { formatReference, type Reference } from '../../core/reference.ts'
import type { StoredManifest } from '../../core/registry.ts'
import type { Bytes } from '../../core/streams.ts'
import { manifestLimitBytes } from '../manifests.ts'
import { readUpstreamBlob, type BlobTransfer } from './upstream-blob.ts'
import type { UpstreamRequests } from './upstream-request.ts'

/** A listing longer than this is cut off: the upstream's fault must not cost our memory. */
const mostPages = 1000

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
      if (Number.isSafeInteger(size)) return { size }
      throw requests.failed(new Error('it does not say how long the blob is'), path)
    },
    readBlob: (digest, transfer) =>
      readUpstreamBlob(`${root}/blobs/${digest}`, requests, transfer),
    async listTags() {
      const tags: string[] = []
      let next: string | undefined = `${root}/tags/list?n=1000`
      for (let pages = 0; next !== undefined && pages < mostPages; pages++) {
        const path: string = next
        const response = await requests.send(path, { method: 'GET', accept: [200, 404] })
        if (response.statusCode === 404) {
          await response.body.dump()
          return undefined
        }
        const body: unknown = await response.body.json().catch((error: unknown) => {
          throw requests.failed(error, path)
        })
        tags.push(...tagsIn(body))
        next = /<([^>]+)>;\s*rel="?next"?/.exec(String(response.headers['link'] ?? ''))?.[1]
      }
      return tags
    },
  }
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
    if (size > limitBytes) throw new Error(`its manifest is larger than ${limitBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function tagsIn(body: unknown): string[] {
  const { tags } = Object(body)
  return Array.isArray(tags) ? tags.map(String) : []
}
