import { mkdir, writeFile } from 'node:fs/promises'
import { Registry as MetricsRegistry } from '@prometheus-io/client'
import { readEnvironment } from '../core/config.ts'
import { toCodedError } from '../core/errors.ts'
import { createHashPool } from '../core/hash-pool.ts'
import { createLog, type Log } from '../core/log.ts'
import { parseProxies } from '../core/proxies.ts'
import type { Report } from '../core/report.ts'
import { createClusterPool } from '../converter/cluster-pool.ts'
import { attemptImport } from '../importer/attempts.ts'
import { assertTagFree } from '../importer/image-push.ts'
import { imageOf } from '../importer/import-record.ts'
import { createImportTracker, type ImportTracker } from '../importer/import-tracker.ts'
import { createImportMetrics } from '../importer/metrics.ts'
import { prepareImport } from '../importer/new-import.ts'
import { parseAddressPolicy } from '../importer/sources/address-policy.ts'
import { retryDelays } from '../importer/sources/patience.ts'
import { openImporterEndpoint } from './importer-endpoint.ts'
import { createPodMetrics } from './importer-metrics.ts'
import { readImporterRequest } from './importer-request.ts'
import {
  defaultTerminationLog,
  importerPrefix,
  importerSettings,
  type ImporterSettings,
} from './importer-settings.ts'
import { openImporterTarget } from './importer-target.ts'
import { failureMessage, successMessage, type ImageFacts } from './termination-message.ts'
import type { CommandContext } from './terminal.ts'

const logEveryMs = 10_000

/**
 * `dvcr importer`: one import into a registry elsewhere, for a pod. How it ended is also left in the
 * termination log. Throws the failure of the import.
 */
export async function importerCommand(context: CommandContext): Promise<void> {
  const { env } = context.terminal
  // Also for settings that are refused.
  const messageFile = env[`${importerPrefix}TERMINATION_LOG`] || defaultTerminationLog
  const leave = (message: string): Promise<void> =>
    writeFile(messageFile, message).catch((error: unknown) => {
      createLog('warn').warn({ err: error, file: messageFile }, 'cannot leave how the import ended')
    })
  try {
    const settings = readEnvironment(importerSettings, { env, prefix: importerPrefix })
    await leave(successMessage(await importOnce(settings, context)))
  } catch (error) {
    const { code, message, retryable, cause } = toCodedError(error)
    createLog('warn').warn({ code, reason: message, err: cause }, 'import failed')
    // Whoever stops a pod means the pod: nothing is wrong with the import.
    const mayPass = retryable || context.signal.aborted
    await leave(failureMessage({ code, message, retryable: mayPass }))
    throw error
  }
}

async function importOnce(
  settings: ImporterSettings,
  { terminal: { env }, signal }: CommandContext,
): Promise<ImageFacts> {
  const log = createLog(settings.logLevel)
  const { request: asked, findLogin } = await readImporterRequest(settings, env)
  const policy = parseAddressPolicy(settings.importPolicy)
  const alone = { idempotencyKey: undefined, runner: undefined }
  const { stored, credentials } = prepareImport(asked, { ...alone, policy })
  const { record, request } = stored
  const scratchFolder = settings.scratch
  await mkdir(scratchFolder, { recursive: true })
  await using owned = new AsyncDisposableStack()
  const hashPool = owned.use(createHashPool())
  const clusterPool = owned.use(createClusterPool())
  const remote = await openImporterTarget(settings, { env, hashPool, scratchFolder })
  const { registry } = owned.use(remote)

  const tracker = createImportTracker(record)
  const metrics = new MetricsRegistry()
  const { ownerUid } = settings
  const measure = createPodMetrics(metrics, { ownerUid, record: () => tracker.record })
  createImportMetrics(metrics).watch(() => [tracker.record])
  owned.use(await openImporterEndpoint(settings.listen, metrics))

  const startedMs = performance.now()
  tracker.change({ state: 'running', startedAt: new Date().toISOString() })
  const target = `${settings.target.origin}/${request.name}:${request.tag}`
  log.info({ source: record.source, target, importPolicy: policy.text }, 'import started')
  owned.use(logProgress(tracker, log))
  await assertTagFree(registry.repository(request.name), request)
  const deps = {
    registry,
    hashPool,
    clusterPool,
    scratchFolder,
    policy,
    findLogin,
    maxVirtualSize: settings.maxVirtualSize,
    proxies: parseProxies(env),
    floorSpeed: {
      bytesPerSecond: settings.importFloorSpeed,
      windowMs: settings.importIdleSeconds * 1000,
    },
    retryDelaysMs: retryDelays(settings.importRetrySeconds * 1000),
  }
  const report: Report = (event) => {
    measure(event)
    tracker.report(event)
    if (event.type === 'warning') log.warn(event.message)
  }
  const onStart = (): Promise<void> => Promise.resolve()
  const nothing = { mayPull: undefined, keeper: undefined }
  const options = { ...nothing, credentials, signal, log, report, onStart }
  const image = imageOf(await attemptImport(request, deps, options), startedMs)
  log.info(image, 'import succeeded')
  return image
}

function logProgress(tracker: ImportTracker, log: Log): Disposable {
  const timer = setInterval(() => {
    const { stage, progress } = tracker.record
    log.info({ stage, ...progress }, 'importing')
  }, logEveryMs)
  return { [Symbol.dispose]: () => clearInterval(timer) }
}
