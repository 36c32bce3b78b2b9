import { CodedError } from '../../core/errors.ts'
import type { HttpClient } from '../../core/http-client.ts'
import type { Log } from '../../core/log.ts'
import type { Blobs } from '../../core/registry.ts'
import type { StoredManifests } from '../manifests.ts'
import type { StoreRegistry } from '../store-registry.ts'
import { createBlobCache } from './blob-cache.ts'
import { createManifestCache } from './manifest-cache.ts'
import type { MirrorMetrics } from './metrics.ts'
import type { PullTimes } from './pull-times.ts'
import { createTagLists } from './tag-lists.ts'
import { createUpstreamRepository } from './upstream.ts'
import type { UpstreamNames } from './upstream-name.ts'
import { createUpstreamRequests } from './upstream-request.ts'

type LocalRepository = ReturnType<StoreRegistry['repository']>

/** The repositories below one prefix, as the upstream has them. Disposing ends its transfers. */
export interface Mirror extends AsyncDisposable {
  /**
   * A repository of the store as clients see it: what is missing or old is taken from the upstream,
   * nothing can be pushed, and a delete makes the next pull ask the upstream.
   */
  repository(local: LocalRepository): LocalRepository
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
  const tagLists = createTagLists(parts)

  return {
    repository(local) {
      const { name } = local
      const upstreamName = names.nameOf(name.slice(prefix.length + 1))
      const upstream = createUpstreamRepository(upstreamName, requests)
      const refuse = (): Promise<never> => Promise.reject(readOnly(name, prefix, names.host))
      const ofBlobs = { name, held: local.blobs, upstream }
      const ofManifests = { name, held: local.manifests, upstream }
      const blobs: Blobs = {
        ...local.blobs,
        stat: (digest) => blobCache.stat(ofBlobs, digest),
        read: (digest, options) => blobCache.read(ofBlobs, digest, options),
        create: refuse,
      }
      const manifests: StoredManifests = {
        ...local.manifests,
        get: (reference) => manifestCache.get(ofManifests, reference),
        put: refuse,
      }
      const ofTags = { name, upstream, listHeld: local.listTags }
      return { ...local, blobs, manifests, listTags: (page) => tagLists.list(ofTags, page) }
    },
    [Symbol.asyncDispose]: () => blobCache[Symbol.asyncDispose](),
  }
}

/** The refusal of whatever would put content into a mirror. */
export function readOnly(name: string, prefix: string, host: string): CodedError {
  return new CodedError(
    'DENIED',
    `cannot put anything into ${name}: repositories below ${prefix}/ are a mirror of ${host}; push there, or choose another name`,
  )
}
