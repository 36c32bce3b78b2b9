import { digestAlgorithm, digestOf, type Digest } from './digest.ts'
import { CodedError } from './errors.ts'
import type { HashPool } from './hash-pool.ts'
import type { HttpClient } from './http-client.ts'
import { mediaTypes } from './manifest.ts'
import { formatReference, parseName, type Reference } from './reference.ts'
import {
  tagExists,
  type Blobs,
  type Manifests,
  type Page,
  type Registry,
  type Repository,
} from './registry.ts'
import { createRemoteBlob } from './remote-blob.ts'

export interface RegistryClientDeps {
  readonly http: HttpClient
  readonly hashPool: HashPool
  /** Where blobs are kept that cannot be sent as they are written. */
  readonly scratchFolder: string
}

const manifestTypes = [
  mediaTypes.ociManifest,
  mediaTypes.ociIndex,
  mediaTypes.dockerManifest,
  mediaTypes.dockerList,
].join(', ')

/** Any OCI registry over HTTP. @see OCI distribution-spec */
export function createRegistryClient(deps: RegistryClientDeps): Registry {
  const { http } = deps
  return {
    repository: (text) => createRemoteRepository(parseName(text), deps),
    listRepositories: (page) => listPages(http, '/v2/_catalog', 'repositories', page),
  }
}

function createRemoteRepository(name: string, deps: RegistryClientDeps): Repository {
  const { http } = deps
  const root = `/v2/${name}`
  return {
    name,
    blobs: remoteBlobs(root, deps),
    manifests: remoteManifests(name, deps),
    listTags: (page) => listPages(http, `${root}/tags/list`, 'tags', page),
  }
}

function remoteBlobs(root: string, deps: RegistryClientDeps): Blobs {
  const { http } = deps
  const at = (digest: Digest): string => `${root}/blobs/${digest}`
  return {
    async stat(digest) {
      const response = await http.send(at(digest), { method: 'HEAD', accept: [200, 404] })
      await response.body.dump()
      if (response.statusCode === 404) return undefined
      return { size: Number(response.headers['content-length']) }
    },
    async *read(digest, { range, signal }) {
      if (range && range.end <= range.start) return
      const headers = range ? { range: `bytes=${range.start}-${range.end - 1}` } : {}
      const accept = range ? [206] : [200]
      const response = await http.send(at(digest), { method: 'GET', headers, signal, accept })
      try {
        for await (const chunk of response.body) {
          const bytes: Uint8Array = chunk
          yield bytes
        }
      } catch (error) {
        signal.throwIfAborted()
        throw new CodedError(
          'TARGET_UNAVAILABLE',
          `the connection to ${http.base.host} broke while blob ${digest} was read; try again`,
          { cause: error },
        )
      }
    },
    forget: async () => {},
    create: (options) => createRemoteBlob(root, options, deps),
    async delete(digest) {
      const response = await http.send(at(digest), { method: 'DELETE', accept: [202, 404] })
      await response.body.dump()
      return response.statusCode === 202
    },
  }
}

function remoteManifests(name: string, { http }: RegistryClientDeps): Manifests {
  const at = (reference: string): string => `/v2/${name}/manifests/${reference}`
  const manifests: Manifests = {
    async get(reference: Reference) {
      const headers = { accept: manifestTypes }
      const response = await http.send(at(formatReference(reference)), {
        method: 'GET',
        headers,
        accept: [200, 404],
      })
      const bytes = new Uint8Array(await response.body.arrayBuffer())
      if (response.statusCode === 404) return undefined
      const isTag = reference.kind === 'tag'
      const digest = digestOf(bytes, isTag ? 'sha256' : digestAlgorithm(reference.digest))
      if (!isTag && digest !== reference.digest) {
        throw new CodedError(
          'DIGEST_INVALID',
          `${http.base.host} answered ${digest} where ${reference.digest} was asked for; it is damaged`,
        )
      }
      const mediaType = String(response.headers['content-type'] ?? '')
      return { bytes, mediaType, digest, size: bytes.length }
    },
    async put({ mediaType, bytes }, { tag, replace }) {
      const digest = digestOf(bytes)
      // The protocol has no condition for this: two pushes at the same moment can still race.
      const existing =
        tag === undefined || replace ? undefined : await manifests.get({ kind: 'tag', tag })
      if (tag !== undefined && existing && existing.digest !== digest) {
        throw tagExists(name, tag, existing.digest)
      }
      const response = await http.send(at(tag ?? digest), {
        method: 'PUT',
        headers: { 'content-type': mediaType },
        body: bytes,
        accept: [201],
      })
      await response.body.dump()
      return { mediaType, digest, size: bytes.length }
    },
    async delete(reference) {
      const response = await http.send(at(formatReference(reference)), {
        method: 'DELETE',
        accept: [202, 404],
      })
      await response.body.dump()
      return response.statusCode === 202
    },
  }
  return manifests
}

/** Follows `Link: rel="next"` until `limit` entries or the end. @see OCI distribution-spec §end-8b */
async function listPages(
  http: HttpClient,
  path: string,
  key: 'repositories' | 'tags',
  { last, limit }: Page,
): Promise<string[]> {
  const query = new URLSearchParams()
  if (limit !== undefined) query.set('n', String(limit))
  if (last !== undefined) query.set('last', last)
  const names: string[] = []
  for (let next: string | undefined = `${path}?${query.toString()}`; next !== undefined;) {
    const response = await http.send(next, { method: 'GET', accept: [200] })
    const body: Record<string, unknown> = Object(await response.body.json())
    const entries = body[key]
    if (Array.isArray(entries)) names.push(...entries.map(String))
    const link = /<([^>]+)>;\s*rel="?next"?/.exec(String(response.headers['link'] ?? ''))
    next = limit !== undefined && names.length >= limit ? undefined : link?.[1]
  }
  return limit === undefined ? names : names.slice(0, limit)
}
