import { isDeepStrictEqual } from 'node:util'
import type { Registry as MetricsRegistry } from '@prometheus-io/client'
import type { Log } from '../../core/log.ts'
import type { Store } from '../store.ts'
import { evictUnused } from './eviction.ts'
import { createMirrorMetrics } from './metrics.ts'
import { createMirror, type Mirror } from './mirror.ts'
import { createPullTimes } from './pull-times.ts'
import type { MirrorSettings } from './settings.ts'
import { openUpstreamClient } from './upstream-client.ts'
import { readUpstream } from './upstream-name.ts'
import { withMirrors } from './with-mirrors.ts'

const hourMs = 60 * 60 * 1000
const defaultPatienceMs = 5 * 60 * 1000

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
  /** Goes on with these; mirrors whose settings are as before are not disturbed. */
  reload(settings: readonly MirrorSettings[]): Promise<void>
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

/** A mirror with what it was made from. */
interface PlacedMirror extends AsyncDisposable {
  readonly settings: MirrorSettings
  readonly mirror: Mirror
}

/** Throws SETTING_INVALID where a password or certificate cannot be read. */
export async function openMirrors(
  settings: readonly MirrorSettings[],
  { store, env, metrics, log, now = Date.now, patienceMs = defaultPatienceMs }: MirrorsDeps,
): Promise<Mirrors> {
  const metricsOf = createMirrorMetrics(metrics)
  const pulls = createPullTimes(store.objects, now)
  const local = store.registry
  let placed: readonly PlacedMirror[] = []

  async function place(setting: MirrorSettings): Promise<PlacedMirror> {
    await using owned = new AsyncDisposableStack()
    const { prefix, ttl: ttlMs } = setting
    const names = readUpstream(setting.upstream)
    const http = owned.use(await openUpstreamClient(names, setting, env))
    const shared = { http, local, pulls, metrics: metricsOf(prefix), log, patienceMs }
    const mirror = owned.use(createMirror({ prefix, names, ttlMs, ...shared }))
    const stack = owned.move()
    return { settings: setting, mirror, [Symbol.asyncDispose]: () => stack.disposeAsync() }
  }

  async function reload(wanted: readonly MirrorSettings[]): Promise<void> {
    const before = placed
    const next: PlacedMirror[] = []
    try {
      for (const setting of wanted) {
        const same = before.find((one) => isDeepStrictEqual(one.settings, setting))
        next.push(same ?? (await place(setting)))
      }
    } catch (error) {
      await dispose(next.filter((one) => !before.includes(one)))
      throw error
    }
    // A longer prefix is inside a shorter one.
    placed = next.toSorted((a, b) => b.settings.prefix.length - a.settings.prefix.length)
    await dispose(before.filter((one) => !placed.includes(one)))
  }

  async function evict(): Promise<void> {
    for (const { settings: setting } of placed) {
      const { prefix, unusedFor } = setting
      const evicted = await evictUnused(prefix, now() - unusedFor, { local, pulls, log })
      if (evicted > 0) log.info({ mirror: prefix, evicted }, 'evicted manifests that nobody pulls')
    }
  }

  await reload(settings)
  const evicting = setInterval(() => {
    evict().catch((error: unknown) => log.error({ err: error }, 'cannot look for unused manifests'))
  }, hourMs)
  evicting.unref()

  return {
    store: withMirrors(store, (name) => placed.find((one) => one.mirror.has(name))?.mirror),
    resolveNamespace(url) {
      for (const { mirror } of placed) {
        const resolved = mirror.resolveNamespace(url)
        if (resolved !== undefined) return resolved
      }
      return url
    },
    evict,
    reload,
    async [Symbol.asyncDispose]() {
      clearInterval(evicting)
      await dispose(placed)
    },
  }
}

async function dispose(mirrors: readonly AsyncDisposable[]): Promise<void> {
  await Promise.all(mirrors.map((one) => one[Symbol.asyncDispose]()))
}
