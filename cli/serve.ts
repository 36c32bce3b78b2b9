import { mkdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { loadSettings } from '../core/config.ts'
import { CodedError, hasErrno } from '../core/errors.ts'
import { createHashPool } from '../core/hash-pool.ts'
import { createLog, type Log } from '../core/log.ts'
import { createClusterPool } from '../converter/cluster-pool.ts'
import { createImages } from '../importer/images.ts'
import { createImportLog } from '../importer/import-log.ts'
import { openImportQueue } from '../importer/import-queue.ts'
import { sourceRetryDelaysMs } from '../importer/http-source.ts'
import { createImportMetrics } from '../importer/metrics.ts'
import { registerImageApi } from '../importer/routes.ts'
import { createMetrics } from '../registry/metrics.ts'
import { createServer } from '../registry/server.ts'
import { openStore } from '../registry/store.ts'
import { formatUrl, isLoopback, parseListen, type ListenAddress } from './address.ts'
import { serveSettings, type ServeSettings } from './serve-settings.ts'
import type { CommandContext } from './terminal.ts'

const dayMs = 24 * 60 * 60 * 1000

/**
 * `dvcr serve`: registry, importer and image API in one process on one folder, until Ctrl-C or
 * SIGTERM; then requests at work are finished and imports are left to the next start.
 */
export async function serve(
  { config, ...flags }: Readonly<Record<string, unknown>>,
  { terminal, signal }: CommandContext,
): Promise<void> {
  const file = typeof config === 'string' ? config : terminal.env['DVCR_CONFIG']
  const settings = await loadSettings(serveSettings, { file, env: terminal.env, flags })
  const address = parseListen(settings.listen)
  assertSafeToServe(address, settings)
  const log = createLog(settings.logLevel)
  await using owned = new AsyncDisposableStack()
  const url = await start(settings, address, log, owned, signal)
  terminal.stderr.write(`dvcr serves ${url}, data in ${resolve(settings.data)}; stop with Ctrl-C\n`)
  await new Promise<void>((stopped) => signal.addEventListener('abort', () => stopped()))
  log.info('stopping')
}

/** Puts the parts together; `owned` stops them in reverse order. Answers the server's address. */
async function start(
  settings: ServeSettings,
  address: ListenAddress,
  log: Log,
  owned: AsyncDisposableStack,
  stopping: AbortSignal,
): Promise<string> {
  await mkdir(settings.scratch, { recursive: true })
  const hashPool = owned.use(createHashPool())
  const clusterPool = owned.use(createClusterPool())
  const store = owned.use(await openStore(settings.data, { hashPool, log }))
  const metrics = createMetrics()
  const imports = owned.use(
    await openImportQueue({
      registry: store.registry,
      hashPool,
      clusterPool,
      scratchFolder: settings.scratch,
      maxVirtualSize: settings.maxVirtualSize,
      records: createImportLog(store.objects, log),
      log,
      metrics: createImportMetrics(metrics.registry),
      maxRunning: settings.maxImports,
      retentionMs: settings.importRetentionDays * dayMs,
      retryDelaysMs: sourceRetryDelaysMs,
    }),
  )
  const guard = isLoopback(address.host) ? 'loopback' : 'any-host'
  const app = owned.use(createServer({ store, log, metrics, guard }))
  registerImageApi(app, { images: createImages(store.registry), imports, stopping })
  await app.listen(address).catch((error: unknown) => {
    if (!hasErrno(error, 'EADDRINUSE') && !hasErrno(error, 'EADDRNOTAVAIL')) throw error
    const why = hasErrno(error, 'EADDRINUSE')
      ? 'the port is in use; stop what listens there or choose another with --listen'
      : 'this machine has no such address'
    throw new CodedError('SETTING_INVALID', `cannot listen on ${settings.listen}: ${why}`, {
      cause: error,
    })
  })
  const bound = app.server.address()
  const url = formatUrl({
    host: address.host,
    port: typeof bound === 'object' && bound ? bound.port : address.port,
  })
  log.info({ url, data: settings.data, guard }, 'serving')
  return url
}

function assertSafeToServe({ host }: ListenAddress, { insecureNoAuth }: ServeSettings): void {
  if (isLoopback(host) || insecureNoAuth) return
  throw new CodedError(
    'SETTING_INVALID',
    `refusing to serve ${host} to other machines without authentication; listen on 127.0.0.1, or accept that anyone who reaches it may do anything: --insecure-no-auth (DVCR_INSECURE_NO_AUTH)`,
  )
}
