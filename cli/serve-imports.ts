import type { Log } from '../core/log.ts'
import type { Registry } from '../core/registry.ts'
import { sourceRetryDelaysMs } from '../importer/sources/http-source.ts'
import { checkpointEveryBytes, keepCheckpoints } from '../importer/checkpoint-store.ts'
import { createImportLog } from '../importer/import-log.ts'
import { openImportQueue, type ImportQueueDeps } from '../importer/import-queue.ts'
import type { Imports } from '../importer/imports.ts'
import { createRunners } from '../importer/runners.ts'
import { openSharedImports } from '../importer/shared-imports.ts'
import type { Store } from '../registry/store.ts'

const beatEveryMs = 5000

type Deps = Omit<
  ImportQueueDeps,
  'records' | 'runner' | 'retryDelaysMs' | 'registry' | 'keeperOf'
> & {
  readonly store: Pick<Store, 'objects' | 'isOwned'> & { readonly registry: Registry }
  readonly log: Log
}

/** The imports of this server, which may share its store with other processes. */
export async function openImports({
  store,
  log,
  ...rest
}: Deps): Promise<Imports & AsyncDisposable> {
  const { objects, registry } = store
  const records = createImportLog(objects, log)
  const kept = { objects, registry, log, everyBytes: checkpointEveryBytes }
  const deps = {
    ...rest,
    registry,
    log,
    records,
    retryDelaysMs: sourceRetryDelaysMs,
    keeperOf: (wanted: { readonly id: string; readonly name: string }) =>
      keepCheckpoints(wanted, kept),
  }
  if (store.isOwned) return openImportQueue(deps)
  const runners = createRunners(objects)
  const queue = await openImportQueue({ ...deps, runner: runners.id })
  const { retentionMs } = rest
  return openSharedImports({ queue, records, objects, runners, log, retentionMs, beatEveryMs })
}
