import type { StoreDeps, StorePolicy } from '../registry/store.ts'
import type { ServeSettings } from './serve-settings.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs

/** What the settings say about the contents of a store. */
function policyOf(settings: ServeSettings): StorePolicy {
  const { gcIntervalMinutes } = settings
  return {
    orphanGraceMs: settings.orphanGraceHours * hourMs,
    sweepEveryMs: gcIntervalMinutes === 0 ? Infinity : gcIntervalMinutes * minuteMs,
    retention: settings.retention,
    immutable: settings.immutableTags,
    quotas: settings.quotas.map(({ prefix, limit }) => ({ prefix, limitBytes: limit })),
    minFreeBytes: settings.minFree,
  }
}

/** What the settings say about how a store is opened. */
export function storeDepsOf(
  settings: ServeSettings,
): Required<Pick<StoreDeps, 'policy' | 'scratchFolder' | 'uploadIdleLimitMs'>> {
  return {
    policy: policyOf(settings),
    scratchFolder: settings.scratch,
    uploadIdleLimitMs: settings.uploadIdleHours * hourMs,
  }
}
