import { basename } from 'node:path'
import { openDockerConfig } from '../core/docker-config.ts'
import { CodedError, reportedError, toCodedError } from '../core/errors.ts'
import { parseImageReference } from '../core/reference.ts'
import { parseSize } from '../core/sizes.ts'
import { createClusterPool } from '../converter/cluster-pool.ts'
import {
  checksumsSchema,
  imageOf,
  newImportRecord,
  type ImportRecord,
} from '../importer/import-record.ts'
import type { ImportRequest } from '../importer/import-request.ts'
import { createImportTracker } from '../importer/import-tracker.ts'
import { openFileSource, openStreamSource } from '../importer/sources/file-source.ts'
import { sourceRetryDelaysMs } from '../importer/sources/http-source.ts'
import { assertTagFree } from '../importer/image-push.ts'
import { importImage } from '../importer/pipeline.ts'
import { ociScheme, openOciFolder } from '../importer/sources/oci-folder.ts'
import { parseSourceAddress, type SourceAddress } from '../importer/sources/source-address.ts'
import { createApiClient } from './api-client.ts'
import { printImport } from './import-summary.ts'
import { createProgressBar } from './progress-bar.ts'
import { openServer, openTarget, type TargetFlags } from './target.ts'
import type { CommandContext } from './terminal.ts'

export interface ImportArguments {
  readonly source: string
  readonly image: string
  readonly flags: TargetFlags & {
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

type Wanted = Omit<ImportRequest, 'openSource'>

/** Without a server there is no setting; the largest disk that qcow2 and our tables were tried with. */
const maxVirtualSize = parseSize('16Ti')

/**
 * `dvcr import`: a URL is imported by the server; a file, standard input, and everything with
 * `--data` by this process. Throws the failure of the import.
 */
export async function importCommand(args: ImportArguments, context: CommandContext): Promise<void> {
  const { source, flags } = args
  const wanted = wantedImport(args)
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(source)
  const address = isUrl ? parseSourceAddress(source) : undefined
  const record =
    address && flags.data === undefined
      ? await importByServer(wanted, args, context)
      : await importHere(address, wanted, args, context)
  printImport(record, flags, context.terminal)
}

function wantedImport({ image, flags }: ImportArguments): Wanted {
  const { name, reference } = parseImageReference(image)
  if (reference.kind === 'digest') {
    throw new CodedError('REQUEST_INVALID', `cannot import to ${image}: give a tag, not a digest`)
  }
  const { md5, sha1, sha256, sha512 } = flags
  const checksums = checksumsSchema.safeParse({ md5, sha1, sha256, sha512 })
  if (!checksums.success) {
    const [issue] = checksums.error.issues
    throw new CodedError('REQUEST_INVALID', `--${String(issue?.path[0])}: ${issue?.message}`)
  }
  return {
    name,
    tag: reference.tag,
    replace: flags.replace ?? false,
    store: flags.store,
    checksums: checksums.data,
    architecture: flags.arch,
  }
}

async function importByServer(
  wanted: Wanted,
  { source, flags }: ImportArguments,
  { terminal, signal }: CommandContext,
): Promise<ImportRecord> {
  await using http = openServer(flags.server, terminal.env)
  const { imports } = createApiClient(http)
  const { id } = await imports.create({ source, ...wanted }, { idempotencyKey: undefined })
  const bar = createProgressBar(terminal)
  let last: ImportRecord | undefined
  try {
    for await (const record of imports.watch(id, { signal })) bar.follow((last = record))
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

async function importHere(
  address: SourceAddress | undefined,
  wanted: Wanted,
  { source, flags }: ImportArguments,
  { terminal, signal }: CommandContext,
): Promise<ImportRecord> {
  await using target = await openTarget(flags, terminal)
  await assertTagFree(target.registry.repository(wanted.name), wanted)
  await using clusterPool = createClusterPool()
  const bar = createProgressBar(terminal)
  const label = address?.label ?? basename(source)
  const tracker = createImportTracker(newImportRecord(label, wanted))
  const startedMs = performance.now()
  const logins = openDockerConfig(terminal.env)
  const reading = { retryDelaysMs: sourceRetryDelaysMs, findLogin: logins.find, maxVirtualSize }
  const following = (async () => {
    for await (const record of tracker.watch(signal)) bar.follow(record)
  })()
  try {
    const imported = await importImage(
      {
        ...wanted,
        openSource: (opening) => {
          const options = { ...target, ...wanted, ...reading, signal: opening }
          if (address) return address.open(options)
          if (source.startsWith(ociScheme)) return openOciFolder(source, options)
          if (source !== '-') return openFileSource(source, { signal: opening })
          return Promise.resolve(openStreamSource('stdin', terminal.stdin))
        },
      },
      { ...target, clusterPool, maxVirtualSize },
      { signal, report: tracker.report },
    )
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
    await target.keepRecord(tracker.record, { ...wanted, source: label }).catch(() => {})
  }
}

function finishedNow(): Pick<ImportRecord, 'finishedAt'> {
  return { finishedAt: new Date().toISOString() }
}
