import type { Log } from '../core/log.ts'
import type { AttemptDeps } from './attempts.ts'
import type { CheckpointKeeper } from './import-checkpoint.ts'
import type { ImportLog } from './import-log.ts'
import type { ImportSecrets } from './import-secrets.ts'
import type { ImportMetrics } from './metrics.ts'

export interface ImportQueueDeps extends AttemptDeps {
  readonly log: Log
  readonly records: ImportLog
  /** Where an import keeps how far it is; `name` is its repository. */
  readonly keeperOf: (wanted: { readonly id: string; readonly name: string }) => CheckpointKeeper
  readonly secrets: ImportSecrets
  readonly metrics: ImportMetrics
  /** Imports that run at a time. */
  readonly maxRunning: number
  /** Imports that wait; each keeps its record in memory and in the store. */
  readonly maxWaiting: number
  readonly retentionMs: number
  /** This process, where several share the records: it then begins with none of them. */
  readonly runner?: string
}
