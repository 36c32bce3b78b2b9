import { CodedError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import { createAccessLog } from '../registry/http/access-log.ts'
import type { Metrics } from '../registry/metrics.ts'
import type { Reload } from '../registry/reload.ts'
import type { ServerOptions } from '../registry/http/server.ts'
import { openTls, type ServerTls } from '../registry/http/tls.ts'
import { startTracing } from '../registry/http/tracing.ts'
import type { ServeSettings } from './serve-settings.ts'
import { version } from './version.ts'

export interface HttpDeps {
  readonly log: Log
  readonly metrics: Metrics
  readonly env: Readonly<Record<string, string | undefined>>
  readonly reload: Reload<ServeSettings>
  /** Who has no certificate may still have other credentials. */
  readonly hasAuthentication: boolean
  /** Gets what is to be disposed with the server. */
  readonly owned: AsyncDisposableStack
}

/** What the settings say of HTTP as such: TLS, limits, logs and traces of requests. */
export async function openHttp(
  settings: ServeSettings,
  { log, metrics, env, reload, hasAuthentication, owned }: HttpDeps,
): Promise<Omit<ServerOptions, 'store' | 'log' | 'metrics' | 'guard'>> {
  const tls = await openServerTls(settings, log, hasAuthentication)
  if (tls) {
    owned.use(tls)
    metrics.watchCertificate(() => tls.expiresAtS())
    reload.on([], () => tls.reload())
  }
  const tracing = await startTracing(env, { version, log })
  if (tracing) owned.use(tracing)
  let logsAccess = settings.accessLog
  reload.on(['accessLog'], (changed) => (logsAccess = changed.accessLog))
  const accessLog = createAccessLog(log)
  return {
    tls,
    observers: [(ended) => logsAccess && accessLog(ended), ...(tracing ? [tracing.observe] : [])],
    floorSpeed: settings.floorSpeed,
    maxConnections: settings.maxConnections,
    drainMs: settings.drain * 1000,
  }
}

async function openServerTls(
  { tlsCert: cert, tlsKey: key, tlsClientCa: clientCa }: ServeSettings,
  log: Log,
  hasAuthentication: boolean,
): Promise<ServerTls | undefined> {
  if (cert !== undefined && key !== undefined) {
    const clientCertificates = hasAuthentication ? 'offered' : 'required'
    return openTls({ cert, key, clientCa }, { log, clientCertificates })
  }
  if (cert === undefined && key === undefined && clientCa === undefined) return undefined
  throw new CodedError(
    'SETTING_INVALID',
    'TLS needs a certificate and its key: --tls-cert (DVCR_TLS_CERT) and --tls-key (DVCR_TLS_KEY)',
  )
}
