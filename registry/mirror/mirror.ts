import type { Digest } from '../../core/digest.ts'
import { CodedError } from '../../core/errors.ts'
import type { HttpClient } from '../../core/http-client.ts'
import type { Log } from '../../core/log.ts'
import type { StoredManifests } from '../manifests.ts'
import { blobUnknown, type StoredBlobs, type StoreRegistry } from '../store-registry.ts'
import { createBlobCache } from './blob-cache.ts'
import { createListings } from './listings.ts'
import { createManifestCache } from './manifest-cache.ts'
import type { MirrorMetrics } from './metrics.ts'
import type { PullTimes } from './pull-times.ts'
import { createUpstreamRepository } from './upstream.ts'
import type { UpstreamNames } from './upstream-name.ts'
import { createUpstreamRequests } from './upstream-request.ts'

type LocalRepository = ReturnType<StoreRegistry['repository']>

/** The repositories below one prefix, as the upstream has them. Disposing ends its transfers. */
export interface Mirror extends AsyncDisposable {
  /** True for the repositories below the prefix. */
  has(name: string): boolean
  /**
   * A repository of the store as clients see it: what is missing or old is taken from the upstream,
   * nothing can be pushed, and a delete makes the next pull ask the upstream.
   */
  repository(local: LocalRepository): LocalRepository
  /** Throws DENIED: the refusal of whatever would put content into it. */
  refuseWrite(name: string): never
  /** The URL of a request that asks with `?ns=` for the upstream's host; `undefined` for others. */
  resolveNamespace(url: string): string | undefined
}

export interface MirrorParts {
  readonly prefix: string
  readonly names: UpstreamNames
  readonly ttlMs: number
  readonly http: HttpClient
  /** The store itself. */
  readonly local: StoreRegistry
  readonly pulls: PullTimes
  readonly metrics: MirrorMetrics
  readonly log: Log
  /** A transfer of a blob that nobody reads any more goes on for so long. */
  readonly patienceMs: number
}

export function createMirror(parts: MirrorParts): Mirror {
  const { prefix, names, http, metrics } = parts
  const requests = createUpstreamRequests(http, { host: names.host, metrics })
  const blobCache = createBlobCache(parts)
  const manifestCache = createManifestCache(parts)
  const listings = createListings(parts)

  function refuseWrite(name: string): never {
    throw new CodedError(
      'DENIED',
      `cannot put anything into ${name}: repositories below ${prefix}/ are a mirror of ${names.host}; push there, or choose another name`,
    )
  }

  return {
    has: (name) => name.startsWith(`${prefix}/`),
    refuseWrite,
    resolveNamespace(url) {
      const [, path, query] = /^\/v2\/([^?]+)\?(.+)$/.exec(url) ?? []
      const isOurs = new URLSearchParams(query).get('ns') === names.host
      return path !== undefined && isOurs ? `/v2/${prefix}/${path}?${query}` : undefined
    },
    repository(local) {
      const { name } = local
      const upstreamName = names.nameOf(name.slice(prefix.length + 1))
      const upstream = createUpstreamRepository(upstreamName, requests)
      const refuse = async (): Promise<never> => refuseWrite(name)
      const ofBlobs = { name, held: local.blobs, upstream }
      const { listTags } = local
      const { listReferrers } = local.manifests
      const ofListings = { name, upstream, held: { listTags, listReferrers } }
      const ofManifests = { name, held: local.manifests, upstream }
      const find = (digest: Digest) => blobCache.find(ofBlobs, digest)
      const blobs: StoredBlobs = {
        ...local.blobs,
        find,
        stat: find,
        async *read(digest, { range, signal }) {
          const found = await find(digest)
          if (!found) throw blobUnknown(name, digest)
          yield* found.read(range, signal)
        },
        create: refuse,
      }
      const manifests: StoredManifests = {
        ...local.manifests,
        get: (reference) => manifestCache.get(ofManifests, reference),
        put: refuse,
        listReferrers: (subject, page) => listings.referrers(ofListings, subject, page),
      }
      return { ...local, blobs, manifests, listTags: (page) => listings.tags(ofListings, page) }
    },
    [Symbol.asyncDispose]: () => blobCache[Symbol.asyncDispose](),
  }
}
