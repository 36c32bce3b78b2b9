import type { CheckpointKeeper } from './import-checkpoint.ts'
import type { ImportRecord, StoredImport } from './import-record.ts'

/** Starts of one import, over restarts, that bring it no further. */
const mostAttempts = 10

/** What an import ends with that has never come further. */
export function fruitless({ attempts }: ImportRecord): NonNullable<ImportRecord['error']> {
  const message = `the server ended while this import ran, after ${attempts} attempts; see its log, then import again`
  return { code: 'UNKNOWN', message, retryable: false }
}

/**
 * What to go on with after a restart, `undefined` where that would be fruitless: an import that takes
 * the process down and comes no further must not do so at every start.
 */
export async function judgeAttempts(
  stored: StoredImport,
  keeper: CheckpointKeeper,
): Promise<StoredImport | undefined> {
  const { attempts } = stored.record
  const { advanced = { attempts: 0, position: 0 } } = stored
  if (attempts - advanced.attempts < mostAttempts) return stored
  const position = (await keeper.load())?.pack.position ?? 0
  return position > advanced.position ? { ...stored, advanced: { attempts, position } } : undefined
}
