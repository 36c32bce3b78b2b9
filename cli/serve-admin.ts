import type { Log } from '../core/log.ts'
import { watchStore } from '../registry/admin/metrics.ts'
import { createScrubbing } from '../registry/admin/scrubbing.ts'
import { countOf } from '../registry/admin/usage.ts'
import type { Metrics } from '../registry/metrics.ts'
import type { Reload } from '../registry/reload.ts'
import type { Store } from '../registry/store.ts'
import type { ServeSettings } from './serve-settings.ts'

export interface AdministerContext {
  readonly settings: ServeSettings
  readonly log: Log
  readonly reload: Reload<ServeSettings>
  /** Gets what is to be disposed with the server. */
  readonly owned: AsyncDisposableStack
}

/** What the server does about the store by itself: scrubbing, metrics, accounts of new quotas. */
export async function administer(
  { settings, log, reload, owned }: AdministerContext,
  { admin, quotas, objects }: Store,
  metrics: Metrics,
): Promise<void> {
  await quotas.settle(countOf(objects))
  watchStore(metrics.registry, admin, log)
  const scrubbing = owned.use(createScrubbing(admin.scrub, { log }))
  scrubbing.apply(settings.scrubRate)
  reload.on(['scrubRate'], ({ scrubRate }) => scrubbing.apply(scrubRate))
}
