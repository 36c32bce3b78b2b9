import { loadSettings } from '../core/config.ts'
import type { HashPool } from '../core/hash-pool.ts'
import type { Log } from '../core/log.ts'
import type { Store } from '../registry/store.ts'
import { serveSettings } from './serve-settings.ts'
import type { Terminal } from './terminal.ts'

export interface LocalStoreFlags {
  /** A folder or a bucket. */
  readonly data: string
  /** Settings of its server; else the file that DVCR_CONFIG names. */
  readonly config?: string | undefined
}

/**
 * The store of `--data`, by the rules that its server has, for a command: it collects no garbage
 * that nobody asked for. Throws SETTING_INVALID, STORE_LOCKED, LAYOUT_UNKNOWN.
 */
export async function openLocalStore(
  { data, config }: LocalStoreFlags,
  { env, hashPool, log }: { env: Terminal['env']; hashPool: HashPool; log: Log },
): Promise<Store> {
  const file = config ?? env['DVCR_CONFIG']
  const settings = await loadSettings(serveSettings, { file, env, flags: { data } })
  // Commands that ask a server need none of this.
  const { openStoreAt } = await import('./store-location.ts')
  const { storeDepsOf } = await import('./store-policy.ts')
  const { policy, ...deps } = storeDepsOf(settings)
  const quiet = { ...policy, sweepEveryMs: Infinity }
  return openStoreAt(settings, { ...deps, policy: quiet, hashPool, log })
}
