import { basename } from 'node:path'
import { openDockerConfig } from '../core/docker-config.ts'
import { CodedError, reportedError, toCodedError } from '../core/errors.ts'
import { parseImageReference } from '../core/reference.ts'
import { parseSize } from '../core/sizes.ts'
import { createClusterPool } from '../converter/cluster-pool.ts'
import { createLog } from '../core/log.ts'
import { parseProxies } from '../core/proxies.ts'
import {
  checkNewImport,
  imageOf,
  newImportRecord,
  newImportSchema,
  separateSecrets,
  type ImportRecord,
  type KeptRequest,
  type NewImport,
} from '../importer/import-record.ts'
import type { ImportedImage } from '../importer/import-request.ts'
import { attemptImport } from '../importer/attempts.ts'
import { createImportTracker, type ImportTracker } from '../importer/import-tracker.ts'
import { openFileSource, openStreamSource } from '../importer/sources/file-source.ts'
import { defaultRetrySeconds, retryDelays } from '../importer/sources/patience.ts'
import { assertTagFree } from '../importer/image-push.ts'
import { importImage } from '../importer/pipeline.ts'
import { ociScheme, openOciFolder } from '../importer/sources/oci-folder.ts'
import type { Credentials } from '../importer/sources/credentials.ts'
import type { Source } from '../importer/sources/source.ts'
import { createApiClient } from './api-client.ts'
import { printImport } from './import-summary.ts'
import { createProgressBar } from './progress-bar.ts'
import { readSourceFlags, type SourceFlags } from './source-flags.ts'
import { openServer, openTarget, type Target, type TargetFlags } from './target.ts'
import type { CommandContext } from './terminal.ts'

export interface ImportArguments {
  readonly source: string
  readonly image: string
  readonly flags: TargetFlags &
    SourceFlags & {
      readonly replace?: boolean
      readonly store: 'auto' | 'as-is'
      readonly md5?: string
      readonly sha1?: string
      readonly sha256?: string
      readonly sha512?: string
      readonly json?: boolean
      readonly arch?: string
    }
}

/** Without a server there is no setting; the largest disk that qcow2 and our tables were tried with. */
const maxVirtualSize = parseSize('16Ti')

/**
 * `dvcr import`: a URL is imported by the server; a file, standard input, and everything with
 * `--data` by this process. Throws the failure of the import.
 */
export async function importCommand(args: ImportArguments, context: CommandContext): Promise<void> {
  const { source, flags } = args
  const wanted = await wantedImport(args, context)
  const isUrl = /^(?:[a-z][a-z0-9+.-]*:\/\/|image:)/i.test(source)
  // Also says what is wrong with it before a server is asked.
  const kept = separateSecrets(wanted)
  const label = isUrl ? checkNewImport(kept.request, kept.credentials).label : basename(source)
  const record =
    isUrl && flags.data === undefined
      ? await importByServer(wanted, args, context)
      : await importHere({ ...kept, label, isUrl }, args, context)
  printImport(record, flags, context.terminal)
}

async function wantedImport(
  { source, image, flags }: ImportArguments,
  { terminal }: CommandContext,
): Promise<NewImport> {
  const { name, reference } = parseImageReference(image)
  if (reference.kind === 'digest') {
    throw new CodedError('REQUEST_INVALID', `cannot import to ${image}: give a tag, not a digest`)
  }
  const { md5, sha1, sha256, sha512, replace, store } = flags
  const request = newImportSchema.safeParse({
    ...(await readSourceFlags(source, flags, terminal.env)),
    source,
    name,
    tag: reference.tag,
    replace,
    store,
    checksums: { md5, sha1, sha256, sha512 },
    architecture: flags.arch,
  })
  if (request.success) return request.data
  const [issue] = request.error.issues
  const field = String(issue?.path.findLast((part) => typeof part === 'string'))
  const flag = `--${field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
  throw new CodedError('REQUEST_INVALID', `${flag}: ${issue?.message}`)
}

async function importByServer(
  wanted: NewImport,
  { flags }: ImportArguments,
  { terminal, signal }: CommandContext,
): Promise<ImportRecord> {
  await using http = openServer(flags.server, terminal.env)
  const { imports } = createApiClient(http)
  const { credentials } = separateSecrets(wanted)
  const { id } = await imports.create(wanted, { idempotencyKey: undefined })
  const bar = createProgressBar(terminal)
  let last: ImportRecord | undefined
  try {
    for await (const record of imports.watch(id, { signal })) {
      bar.follow((last = record))
      const isLacking = record.error?.code === 'CREDENTIALS_REQUIRED'
      if (isLacking && credentials) await imports.giveCredentials(id, credentials)
    }
  } catch (error) {
    // Ctrl-C means the import, not only the report of it.
    if (signal.aborted) await imports.cancel(id)
    throw error
  } finally {
    bar.end()
  }
  if (last?.error) throw reportedError(last.error.code, last.error.message, 'UNKNOWN')
  if (last?.state !== 'succeeded') throw new CodedError('CANCELLED', `import ${id} was cancelled`)
  return last
}

interface HereWanted {
  readonly request: KeptRequest
  readonly credentials: Credentials | undefined
  readonly label: string
  readonly isUrl: boolean
}

async function importHere(
  wanted: HereWanted,
  { flags }: ImportArguments,
  context: CommandContext,
): Promise<ImportRecord> {
  const { terminal, signal } = context
  const { request, label } = wanted
  await using target = await openTarget(flags, terminal)
  await assertTagFree(target.registry.repository(request.name), request)
  const bar = createProgressBar(terminal)
  const tracker = createImportTracker(newImportRecord(label, request))
  const startedMs = performance.now()
  const following = (async () => {
    for await (const record of tracker.watch(signal)) bar.follow(record)
  })()
  try {
    const imported = await run(wanted, target, tracker, context)
    const image = imageOf(imported, startedMs)
    return tracker.change({ ...finishedNow(), state: 'succeeded', image })
  } catch (error) {
    const { code, message, retryable } = toCodedError(error)
    const failure = { code, message, retryable }
    const state = signal.aborted ? 'cancelled' : 'failed'
    tracker.change({ ...finishedNow(), state, error: failure })
    throw error
  } finally {
    await following
    bar.end()
    // What the import itself said matters more than that its record could not be kept.
    await target.keepRecord(tracker.record, { ...request, source: label }).catch(() => {})
  }
}

async function run(
  { request, credentials, isUrl }: HereWanted,
  target: Target,
  { report }: ImportTracker,
  { terminal, signal }: CommandContext,
): Promise<ImportedImage> {
  const { source } = request
  const retryDelaysMs = retryDelays(defaultRetrySeconds * 1000)
  await using clusterPool = createClusterPool()
  const deps = { ...target, clusterPool, maxVirtualSize, retryDelaysMs }
  const log = createLog('silent')
  if (isUrl) {
    const { find: findLogin } = openDockerConfig(terminal.env)
    const remote = { ...deps, findLogin, proxies: parseProxies(terminal.env) }
    const onStart = (): Promise<void> => Promise.resolve()
    const mayPull = (): boolean => true
    const options = { credentials, mayPull, keeper: undefined, signal, log, report, onStart }
    return await attemptImport(request, remote, options)
  }
  const openSource = (opening: AbortSignal): Promise<Source> => {
    const options = { ...deps, ...request, signal: opening }
    if (source.startsWith(ociScheme)) return openOciFolder(source, options)
    if (source !== '-') return openFileSource(source, { signal: opening })
    return Promise.resolve(openStreamSource('stdin', terminal.stdin))
  }
  return await importImage({ ...request, openSource }, deps, { signal, report })
}

function finishedNow(): Pick<ImportRecord, 'finishedAt'> {
  return { finishedAt: new Date().toISOString() }
}
