import { isDeepStrictEqual } from 'node:util'
import { CodedError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'

/** What is to be done when the settings are read again. */
export interface Reload<Settings extends object> {
  /**
   * `apply` is called with the new settings at every reload, also where these `keys` are as they
   * were: files that they name may have changed. Where it throws, the others are still applied.
   */
  on(keys: readonly (keyof Settings)[], apply: (settings: Settings) => unknown): void
  /** Reads and applies the settings. Never throws: what does not work is logged and stays as it is. */
  run(): Promise<void>
}

interface Applier<Settings> {
  readonly keys: readonly (keyof Settings)[]
  readonly apply: (settings: Settings) => unknown
}

/**
 * Settings that change while the server runs. Settings that nobody applies are named in the log:
 * they need a restart.
 */
export function createReload<Settings extends object>(
  running: Settings,
  { read, log }: { readonly read: () => Promise<Settings>; readonly log: Log },
): Reload<Settings> {
  const appliers: Applier<Settings>[] = []
  let working = Promise.resolve()

  async function reload(): Promise<void> {
    let settings: Settings
    try {
      settings = await read()
    } catch (error) {
      log.error({ err: error }, 'the new settings are refused; the old ones stay')
      return
    }
    for (const { keys, apply } of appliers) {
      try {
        await apply(settings)
      } catch (error) {
        const reason = error instanceof CodedError ? error.message : error
        log.error({ err: error, settings: keys }, `cannot apply new settings: ${String(reason)}`)
      }
    }
    const known = new Set<PropertyKey>(appliers.flatMap(({ keys }) => keys))
    const left = Object.entries(settings)
      .filter(([key, value]) => !isDeepStrictEqual(value, Reflect.get(running, key)))
      .map(([key]) => key)
      .filter((key) => !known.has(key))
    log.info('settings reloaded')
    if (left.length > 0) log.warn({ settings: left }, 'these settings need a restart')
  }

  return {
    on: (keys, apply) => void appliers.push({ keys, apply }),
    run() {
      working = working.then(reload)
      return working
    },
  }
}
