import type { Registry as MetricsRegistry } from '@prometheus-io/client'
import type { Log } from '../../core/log.ts'
import type { Store } from '../store.ts'
import type { StoreRegistry } from '../store-registry.ts'
import { evictUnused } from './eviction.ts'
import { createMirrorMetrics } from './metrics.ts'
import { createMirror, readOnly, type Mirror } from './mirror.ts'
import { createPullTimes } from './pull-times.ts'
import type { MirrorSettings } from './settings.ts'
import { openUpstreamClient } from './upstream-client.ts'
import { readUpstream } from './upstream-name.ts'

const hourMs = 60 * 60 * 1000

/** The mirrors of this server. Disposing gives up the transfers from upstreams at work. */
export interface Mirrors extends AsyncDisposable {
  /** The store with the mirrors before it: what every other part uses. */
  readonly store: Store
  /**
   * The URL of a request with `?ns=<host>` for the host of a mirror, as one for that mirror; any
   * other as it is. @see OCI distribution-spec §registry-proxying
   */
  resolveNamespace(url: string): string
  /** Removes what nobody has pulled for the time in the settings; it also does so every hour. */
  evict(): Promise<void>
}

export interface MirrorsDeps {
  readonly store: Store
  readonly env: Readonly<Record<string, string | undefined>>
  readonly metrics: MetricsRegistry
  readonly log: Log
  /** ms of `Date.now()`. */
  readonly now?: () => number
  /** A transfer of a blob that nobody reads any more goes on for so long; five minutes unless said. */
  readonly patienceMs?: number
}

interface PlacedMirror {
  readonly mirror: Mirror
  readonly prefix: string
  readonly host: string
}

/** Throws SETTING_INVALID where a password or certificate cannot be read. */
export async function openMirrors(
  settings: readonly MirrorSettings[],
  { store, env, metrics, log, now = Date.now, patienceMs = 5 * 60_000 }: MirrorsDeps,
): Promise<Mirrors> {
  await using owned = new AsyncDisposableStack()
  const metricsOf = createMirrorMetrics(metrics)
  const pulls = createPullTimes(store.objects, now)
  const local = store.registry
  const mirrors: PlacedMirror[] = []
  for (const setting of settings) {
    const { prefix, ttl: ttlMs } = setting
    const names = readUpstream(setting.upstream)
    const http = owned.use(await openUpstreamClient(names, setting, env))
    const shared = { http, local, pulls, metrics: metricsOf(prefix), log, patienceMs }
    const mirror = owned.use(createMirror({ prefix, names, ttlMs, ...shared }))
    mirrors.push({ mirror, prefix, host: names.host })
  }
  // A longer prefix is inside a shorter one.
  mirrors.sort((one, other) => other.prefix.length - one.prefix.length)

  async function evict(): Promise<void> {
    for (const { prefix, unusedFor } of settings) {
      const evicted = await evictUnused(prefix, now() - unusedFor, { local, pulls, log })
      if (evicted > 0) log.info({ mirror: prefix, evicted }, 'evicted manifests that nobody pulls')
    }
  }

  const evicting = setInterval(() => {
    evict().catch((error: unknown) => log.error({ err: error }, 'cannot look for unused manifests'))
  }, hourMs)
  evicting.unref()
  owned.defer(() => clearInterval(evicting))

  const stack = owned.move()
  return {
    store: withMirrors(store, mirrors),
    resolveNamespace: (url) => resolveNamespace(url, mirrors),
    evict,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

function withMirrors(store: Store, mirrors: readonly PlacedMirror[]): Store {
  const { registry: local, uploads } = store
  const find = (name: string): PlacedMirror | undefined =>
    mirrors.find(({ prefix }) => name.startsWith(`${prefix}/`))

  function requireWritable(name: string): void {
    const found = find(name)
    if (found) throw readOnly(name, found.prefix, found.host)
  }

  const registry: StoreRegistry = {
    ...local,
    repository(name) {
      const repository = local.repository(name)
      return find(name)?.mirror.repository(repository) ?? repository
    },
    async mountBlob(digest, names) {
      requireWritable(names.to)
      return local.mountBlob(digest, names)
    },
  }
  return {
    ...store,
    registry,
    uploads: {
      ...uploads,
      get openCount() {
        return uploads.openCount
      },
      async create(name, expectedBytes) {
        requireWritable(name)
        return uploads.create(name, expectedBytes)
      },
    },
  }
}

function resolveNamespace(url: string, mirrors: readonly PlacedMirror[]): string {
  const [, path, query] = /^\/v2\/([^?]+)\?(.+)$/.exec(url) ?? []
  if (path === undefined || query === undefined) return url
  const host = new URLSearchParams(query).get('ns')
  const found = mirrors.find((mirror) => mirror.host === host)
  return found ? `/v2/${found.prefix}/${path}?${query}` : url
}
