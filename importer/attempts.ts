import { CodedError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import type { Report } from '../core/report.ts'
import { retried } from '../core/retry.ts'
import type { CheckpointKeeper } from './import-checkpoint.ts'
import type { KeptRequest } from './import-record.ts'
import type { ImportedImage } from './import-request.ts'
import { importImage, type PipelineDeps } from './pipeline.ts'
import type { Credentials } from './sources/credentials.ts'
import type { Source, SourcePlace } from './sources/source.ts'
import { parseSource, type OpenOptions } from './sources/source-address.ts'

export type AttemptDeps = PipelineDeps & Omit<OpenOptions, 'signal'>

export interface AttemptOptions {
  readonly credentials: Credentials | undefined
  /** Where the import keeps how far it is; `undefined`: nowhere. */
  readonly keeper: CheckpointKeeper | undefined
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
  request: KeptRequest,
  deps: AttemptDeps,
  { credentials, keeper, signal, log, report, onStart }: AttemptOptions,
): Promise<ImportedImage> {
  const address = parseSource(request, credentials)

  async function attempt(): Promise<ImportedImage> {
    await onStart()
    const checksums = await address.findChecksums({ ...deps, signal })
    const openSource = (opening: AbortSignal, from: SourcePlace | undefined): Promise<Source> =>
      address.open({ ...deps, checksums, from, signal: opening })
    const wanted = { ...request, checksums, openSource, ...(keeper && { keeper }) }
    try {
      return await importImage(wanted, deps, { signal, report })
    } catch (error) {
      if (codeOf(error) === 'BLOB_UPLOAD_UNKNOWN') await keeper?.forget()
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
