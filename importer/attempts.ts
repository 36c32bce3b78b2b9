import { CodedError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import type { Report } from '../core/report.ts'
import { retried } from '../core/retry.ts'
import type { CheckpointKeeper } from './import-checkpoint.ts'
import type { StoredImport } from './import-record.ts'
import type { ImportedImage } from './import-request.ts'
import { importImage, type PipelineDeps } from './pipeline.ts'
import type { AddressPolicy } from './sources/address-policy.ts'
import type { SourcePlace } from './sources/source.ts'
import { parseSourceAddress } from './sources/source-address.ts'

export interface AttemptDeps extends PipelineDeps {
  readonly policy: AddressPolicy
  /** Waits before the next try after a failure that may pass. */
  readonly retryDelaysMs: readonly number[]
  /** Where an import keeps how far it is; `name` is its repository. */
  readonly keeperOf: (wanted: { readonly id: string; readonly name: string }) => CheckpointKeeper
}

export interface AttemptOptions {
  readonly signal: AbortSignal
  readonly log: Log
  readonly report: Report
  /** A run of the pipeline begins. */
  readonly onStart: () => Promise<void>
}

/**
 * Runs the import until it succeeds or fails for good; a run goes on where the one before was cut
 * off, of whichever process. Throws what the last run threw.
 */
export function attemptImport(
  { record: { id }, request }: StoredImport,
  deps: AttemptDeps,
  { signal, log, report, onStart }: AttemptOptions,
): Promise<ImportedImage> {
  const keeper = deps.keeperOf({ id, name: request.name })
  const wanted = {
    ...request,
    keeper,
    openSource: (opening: AbortSignal, from: SourcePlace | undefined) =>
      parseSourceAddress(request.source).open({ ...deps, ...request, from, signal: opening }),
  }

  async function attempt(): Promise<ImportedImage> {
    await onStart()
    try {
      return await importImage(wanted, deps, { signal, report })
    } catch (error) {
      if (codeOf(error) === 'BLOB_UPLOAD_UNKNOWN') await keeper.forget()
      throw error
    }
  }

  return retried(attempt, {
    delaysMs: deps.retryDelaysMs,
    signal,
    shouldRetry(error) {
      signal.throwIfAborted()
      // Only a cut transfer is worth a new run, what could be resumed was tried by the source; and
      // one that was to go on with a layer that is gone.
      const isCut = ['SOURCE_TRUNCATED', 'BLOB_UPLOAD_UNKNOWN'].includes(codeOf(error) ?? '')
      if (isCut) log.warn({ err: error }, 'import was cut, trying again')
      return isCut
    },
  })
}

const codeOf = (error: unknown): string | undefined =>
  error instanceof CodedError ? error.code : undefined
