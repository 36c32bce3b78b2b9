import type { StoreDeps, StorePolicy } from '../registry/store.ts'
import type { ServeSettings } from './serve-settings.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs

/** What the settings say about the contents of a store. */
export function policyOf(settings: ServeSettings): StorePolicy {
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

/** The same as what a store is opened with. */
export function storeDepsOf(
  settings: ServeSettings,
): Pick<StoreDeps, 'policy' | 'scratchFolder' | 'uploadIdleLimitMs'> {
  return {
    policy: policyOf(settings),
    scratchFolder: settings.scratch,
    uploadIdleLimitMs: settings.uploadIdleHours * hourMs,
  }
}
