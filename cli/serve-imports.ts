import type { Log } from '../core/log.ts'
import type { Registry } from '../core/registry.ts'
import { checkpointEveryBytes, keepCheckpoints } from '../importer/checkpoint-store.ts'
import { createImportLog } from '../importer/import-log.ts'
import { openImportQueue } from '../importer/import-queue.ts'
import type { ImportQueueDeps } from '../importer/import-queue-deps.ts'
import { createMemorySecrets, createSecretFiles } from '../importer/import-secrets.ts'
import type { Imports } from '../importer/imports.ts'
import { createRunners } from '../importer/runners.ts'
import { openSharedImports } from '../importer/shared-imports.ts'
import type { Store } from '../registry/store.ts'

const beatEveryMs = 5000

type Deps = Omit<ImportQueueDeps, 'records' | 'secrets' | 'runner' | 'registry' | 'keeperOf'> & {
  /** `undefined`: where data is kept there are no files. */
  readonly secretsFolder: string | undefined
  readonly store: Pick<Store, 'objects' | 'isOwned'> & { readonly registry: Registry }
  readonly log: Log
}

/** The imports of this server, which may share its store with other processes. */
export async function openImports({
  store,
  log,
  secretsFolder,
  ...rest
}: Deps): Promise<Imports & AsyncDisposable> {
  const { objects, registry } = store
  const records = createImportLog(objects, log)
  const isAlone = store.isOwned && secretsFolder !== undefined
  const secrets = isAlone ? createSecretFiles(secretsFolder, log) : createMemorySecrets()
  const kept = { objects, registry, log, everyBytes: checkpointEveryBytes }
  const keeperOf: ImportQueueDeps['keeperOf'] = (wanted) => keepCheckpoints(wanted, kept)
  const deps = { ...rest, registry, log, records, secrets, keeperOf }
  if (store.isOwned) return openImportQueue(deps)
  const runners = createRunners(objects)
  const queue = await openImportQueue({ ...deps, runner: runners.id })
  const { retentionMs } = rest
  return openSharedImports({
    queue,
    records,
    secrets,
    objects,
    runners,
    log,
    retentionMs,
    beatEveryMs,
  })
}
