import { mkdir } from 'node:fs/promises'
import { loadSettings } from '../core/config.ts'
import { CodedError, hasErrno } from '../core/errors.ts'
import { createHashPool } from '../core/hash-pool.ts'
import { createLog, type Log } from '../core/log.ts'
import { isLoopback } from '../core/loopback.ts'
import type { ObjectStore } from '../core/object-store.ts'
import { parseProxies } from '../core/proxies.ts'
import { createClusterPool } from '../converter/cluster-pool.ts'
import { parseAddressPolicy } from '../importer/sources/address-policy.ts'
import { retryDelays } from '../importer/sources/patience.ts'
import { createImages } from '../importer/images.ts'
import { createImportMetrics } from '../importer/metrics.ts'
import { registerImageApi } from '../importer/routes.ts'
import { openAccessControl, type AccessControl } from '../registry/auth/access-control.ts'
import { accessOf } from '../registry/auth/request-access.ts'
import type { Storage } from '../registry/data-store.ts'
import { createMetrics } from '../registry/metrics.ts'
import { openMirrors } from '../registry/mirror/mirrors.ts'
import { announceChanges } from '../registry/notifications/announced-registry.ts'
import { createWebhookMetrics } from '../registry/notifications/metrics.ts'
import { openWebhooks } from '../registry/notifications/webhooks.ts'
import { createReload, type Reload } from '../registry/reload.ts'
import { createServer } from '../registry/http/server.ts'
import { measureStorage } from '../registry/storage-metrics.ts'
import { formatUrl, parseListen, type ListenAddress } from './address.ts'
import { openHttp } from './serve-http.ts'
import { openImports } from './serve-imports.ts'
import { administer } from './serve-admin.ts'
import { openStoreAt, placeOf, secretsFolderOf } from './store-location.ts'
import { storeDepsOf } from './store-policy.ts'
import { serveSettings, type ServeSettings } from './serve-settings.ts'
import type { CommandContext, Terminal } from './terminal.ts'

/** Each keeps its record in memory and in the store. */
const mostWaitingImports = 1000

const dayMs = 24 * 60 * 60 * 1000

/**
 * `dvcr serve`: registry, importer and image API in one process on one folder, until Ctrl-C or
 * SIGTERM; then requests at work are finished and imports are left to the next start.
 */
export async function serve(
  { config, ...flags }: Readonly<Record<string, unknown>>,
  { terminal, signal, extendStop }: CommandContext,
): Promise<void> {
  const file = typeof config === 'string' ? config : terminal.env['DVCR_CONFIG']
  const { env } = terminal
  const read = () => loadSettings(serveSettings, { file, env, flags })
  const settings = await read()
  const address = parseListen(settings.listen)
  assertSafeToServe(address, settings)
  const log = createLog(settings.logLevel)
  const reload = createReload(settings, { read, log })
  reload.on(['logLevel'], ({ logLevel }) => (log.level = logLevel))
  extendStop(settings.drain * 1000)
  await using owned = new AsyncDisposableStack()
  const hangUp = (): void => void reload.run()
  // A terminal that closes sends the same signal: there it ends the server, as it ends others.
  if (terminal.stderr.isTTY !== true) process.on('SIGHUP', hangUp)
  owned.defer(() => void process.off('SIGHUP', hangUp))
  const url = await start({ settings, address, log, owned, env, reload, stopping: signal })
  terminal.stderr.write(`dvcr serves ${url}, data in ${placeOf(settings.data)}; stop with Ctrl-C\n`)
  await new Promise<void>((stopped) => signal.addEventListener('abort', () => stopped()))
  log.info('stopping')
}

interface Start {
  readonly settings: ServeSettings
  readonly address: ListenAddress
  readonly log: Log
  /** Stops what is put into it, in reverse order. */
  readonly owned: AsyncDisposableStack
  readonly env: Terminal['env']
  readonly reload: Reload<ServeSettings>
  readonly stopping: AbortSignal
}

/** Puts the parts together. Answers the server's address. */
async function start(context: Start): Promise<string> {
  const { settings, address, log, owned, env, reload, stopping } = context
  await mkdir(settings.scratch, { recursive: true })
  const hashPool = owned.use(createHashPool())
  const clusterPool = owned.use(createClusterPool())
  const metrics = createMetrics()
  const measure = (storage: Storage): Storage => measureStorage(storage, metrics.registry)
  const storeDeps = { hashPool, log, measure, ...storeDepsOf(settings) }
  const stored = owned.use(await openStoreAt(settings, storeDeps))
  await administer(context, stored, metrics)
  const mirrorDeps = { store: stored, env, metrics: metrics.registry, log }
  const mirrors = owned.use(await openMirrors(settings.mirrors, mirrorDeps))
  reload.on(['mirrors'], (changed) => mirrors.reload(changed.mirrors))
  const { store, resolveNamespace } = mirrors
  const { objects, isOwned } = store
  const webhookMetrics = createWebhookMetrics(metrics.registry)
  const webhookDeps = { objects, log, metrics: webhookMetrics }
  const webhooks = owned.use(await openWebhooks(settings.webhooks, webhookDeps))
  reload.on(['webhooks'], (changed) => webhooks.apply(changed.webhooks))
  const registry = announceChanges(store.registry, webhooks)
  const policyText = settings.importPolicy ?? (isLoopback(address.host) ? 'open' : 'restricted')
  const policy = parseAddressPolicy(policyText)
  const imports = owned.use(
    await openImports({
      store: { objects, isOwned, registry },
      hashPool,
      clusterPool,
      scratchFolder: settings.scratch,
      maxVirtualSize: settings.maxVirtualSize,
      policy,
      proxies: parseProxies(env),
      floorSpeed: {
        bytesPerSecond: settings.importFloorSpeed,
        windowMs: settings.importIdleSeconds * 1000,
      },
      retryDelaysMs: retryDelays(settings.importRetrySeconds * 1000),
      reuse: { objects, mountBlob: store.registry.mountBlob },
      secretsFolder: secretsFolderOf(settings.data),
      log,
      metrics: createImportMetrics(metrics.registry),
      maxRunning: settings.maxImports,
      maxWaiting: mostWaitingImports,
      retentionMs: settings.importRetentionDays * dayMs,
    }),
  )
  const access = await openAccess(context, store.objects)
  const guard = access ? 'origin' : isLoopback(address.host) ? 'loopback' : 'any-host'
  const hasAuthentication = access !== undefined
  const httpDeps = { log, metrics, env, reload, hasAuthentication, owned }
  const http = await openHttp(settings, httpDeps)
  const app = owned.use(
    createServer({
      store,
      log,
      metrics,
      guard,
      access,
      resolveNamespace,
      events: webhooks,
      ...http,
    }),
  )
  registerImageApi(app, {
    images: createImages(registry, stored.registry),
    imports,
    stopping,
    accessOf,
  })
  const listenTextResolver = (): string => 'listening'
  await app.listen({ ...address, listenTextResolver }).catch((error: unknown) => {
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
    scheme: http.tls ? 'https' : 'http',
    host: address.host,
    port: typeof bound === 'object' && bound ? bound.port : address.port,
  })
  log.info({ url, data: settings.data, guard, importPolicy: policy.text }, 'serving')
  return url
}

async function openAccess(
  { settings, log, owned, reload }: Start,
  objects: ObjectStore,
): Promise<AccessControl | undefined> {
  const { authConfig: path } = settings
  if (path === undefined) return undefined
  const access = owned.use(await openAccessControl({ path, objects, log }))
  reload.on(['authConfig'], ({ authConfig }) => access.reload(authConfig))
  return access
}

function assertSafeToServe({ host }: ListenAddress, settings: ServeSettings): void {
  if (isLoopback(host) || settings.insecureNoAuth || settings.authConfig !== undefined) return
  // Without other authentication every client needs a certificate then.
  if (settings.tlsClientCa !== undefined) return
  throw new CodedError(
    'SETTING_INVALID',
    `refusing to serve ${host} to other machines without authentication; say who may do what with --auth-config (docs/access.md), listen on 127.0.0.1, or accept that anyone who reaches it may do anything: --insecure-no-auth (DVCR_INSECURE_NO_AUTH)`,
  )
}
