import { CodedError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import type { Report } from '../core/report.ts'
import { retried } from '../core/retry.ts'
import type { CheckpointKeeper } from './import-checkpoint.ts'
import type { KeptRequest } from './import-record.ts'
import { rememberImage, reuseImage, type FindDeps } from './import-hits.ts'
import type { ImportedImage, ImportRequest } from './import-request.ts'
import { copyStoredImage } from './stored-image.ts'
import { importImage, type PipelineDeps } from './pipeline.ts'
import type { Credentials } from './sources/credentials.ts'
import type { Source, SourcePlace } from './sources/source.ts'
import { parseSource, type OpenOptions } from './sources/source-address.ts'

export interface AttemptDeps extends PipelineDeps, Omit<OpenOptions, 'signal' | 'registry'> {
  /** Where images that are here already are found and mounted; nothing unless given. */
  readonly reuse?: Omit<FindDeps, 'registry' | 'mayPull'> | undefined
}

export interface AttemptOptions {
  readonly credentials: Credentials | undefined
  /** Whose images may be used instead of a transfer; nobody's unless given. */
  readonly mayPull: ((name: string) => boolean) | undefined
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
  { credentials, mayPull, keeper, signal, log, report, onStart }: AttemptOptions,
): Promise<ImportedImage> {
  const address = parseSource(request, credentials)

  async function attempt(): Promise<ImportedImage> {
    await onStart()
    const checksums = await address.findChecksums({ ...deps, signal })
    const openSource = (opening: AbortSignal, from: SourcePlace | undefined): Promise<Source> =>
      address.open({ ...deps, checksums, from, signal: opening })
    const wanted = { ...request, checksums, openSource, ...(keeper && { keeper }) }
    const here = await findHere(wanted)
    if (here) return here
    try {
      const image = await importImage(wanted, deps, { signal, report })
      await remember(wanted, image)
      return image
    } catch (error) {
      if (codeOf(error) === 'BLOB_UPLOAD_UNKNOWN') await keeper?.forget()
      throw error
    }
  }

  /** What is in this registry already, under the new name. */
  async function findHere(wanted: ImportRequest): Promise<ImportedImage | undefined> {
    const { reuse, registry } = deps
    if (!reuse) return undefined
    const { stored } = address
    if (stored) {
      const manifest = await registry.repository(stored.name).manifests.get(stored.reference)
      const image = manifest && { name: stored.name, manifest }
      return image && copyStoredImage(image, wanted, { ...reuse, registry })
    }
    if (!mayPull) return undefined
    return reuseImage(wanted, address.label, { ...reuse, registry, mayPull })
  }

  async function remember(wanted: ImportRequest, image: ImportedImage): Promise<void> {
    await (deps.reuse && rememberImage(deps.reuse.objects, wanted, image))?.catch(
      (error: unknown) => log.warn({ err: error }, 'cannot remember the checksums of an image'),
    )
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
