import type { LookupFunction } from 'node:net'
import { getCACertificates } from 'node:tls'
import { Agent, ProxyAgent, type Dispatcher } from 'undici'
import type { Proxies } from './proxies.ts'

/** Whom TLS connections trust. */
export interface TlsTrust {
  /** PEM of authorities to trust besides the usual ones. */
  readonly ca?: string | undefined
  /** Accept any certificate. */
  readonly insecure?: boolean | undefined
}

export interface ConnectionOptions {
  readonly tls?: TlsTrust | undefined
  /** Where connections may go; anywhere unless given. */
  readonly policy?:
    | {
        /** Throws for a host that may not be asked. */
        requireHost(host: string): void
        readonly lookup: LookupFunction
      }
    | undefined
  /** What stands between us and the servers; nothing unless given. */
  readonly proxies?: Proxies | undefined
  /** No answer for so long is a failure; 0: wait for ever. */
  readonly headersTimeoutMs: number
  /** No byte of a body for so long is a failure. */
  readonly bodyTimeoutMs: number
}

/** HTTP connections of one purpose, to any server. */
export interface Connections extends AsyncDisposable {
  /** What a request to `url` is sent with. Throws what the policy throws for its host. */
  to(url: URL): Pick<Dispatcher.RequestOptions, 'headersTimeout' | 'bodyTimeout'> & {
    readonly dispatcher: Dispatcher
  }
  /** For messages: ` through the proxy host:port`, or nothing. */
  via(url: URL): string
}

const connectTimeoutMs = 15_000

/**
 * Keeps connections open until disposed. Through a proxy it is the proxy that resolves names: the
 * policy then judges names and addresses as they are written, and the proxy where it connects to.
 */
export function createConnections(options: ConnectionOptions): Connections {
  const { tls: { ca, insecure = false } = {}, policy, proxies } = options
  const timeouts = { headersTimeout: options.headersTimeoutMs, bodyTimeout: options.bodyTimeoutMs }
  const trust = {
    timeout: connectTimeoutMs,
    rejectUnauthorized: !insecure,
    ...(ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] }),
  }
  const direct = new Agent({ connect: { ...trust, ...(policy && { lookup: policy.lookup }) } })
  const proxied = new Map<string, Dispatcher>()

  function through(proxy: URL): Dispatcher {
    const known = proxied.get(proxy.href)
    if (known) return known
    const agent = new ProxyAgent({
      uri: proxy.href,
      requestTls: trust,
      proxyTls: { timeout: connectTimeoutMs },
    })
    proxied.set(proxy.href, agent)
    return agent
  }

  return {
    to(url) {
      // Names are judged again as they are resolved.
      policy?.requireHost(url.hostname)
      const proxy = proxies?.of(url)
      return { dispatcher: proxy ? through(proxy) : direct, ...timeouts }
    },
    via(url) {
      const proxy = proxies?.of(url)
      return proxy ? ` through the proxy ${proxy.host}` : ''
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([direct, ...proxied.values()].map((agent) => agent.destroy()))
    },
  }
}
