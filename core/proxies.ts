import { BlockList, isIP, isIPv4 } from 'node:net'
import { CodedError } from './errors.ts'
import { isLoopback } from './loopback.ts'

/** Which requests go through which proxy. */
export interface Proxies {
  /** The proxy for a request to `url`; `undefined`: none. May hold the proxy's user info. */
  of(url: URL): URL | undefined
}

/**
 * The proxies of the environment as curl reads them: `http_proxy` and `https_proxy`, each except for
 * the hosts in `no_proxy`; lower case before upper case. `no_proxy` holds names (with all below
 * them), addresses and networks, each with or without a port, or `*` for all. Unlike curl, this
 * machine itself is never asked through a proxy. Throws SETTING_INVALID.
 */
export function parseProxies(env: Readonly<Record<string, string | undefined>>): Proxies {
  const read = (name: string): string => (env[name] || env[name.toUpperCase()] || '').trim()
  const byScheme = new Map([
    ['http:', proxyOf(read('http_proxy'), 'http_proxy')],
    ['https:', proxyOf(read('https_proxy'), 'https_proxy')],
  ])
  const exceptions = read('no_proxy').split(/[\s,]+/)
  const isDirect = exceptions.filter((one) => one !== '').map(parseException)
  return {
    of(url) {
      const proxy = byScheme.get(url.protocol)
      if (!proxy) return undefined
      const host = url.hostname.replace(/^\[|\]$|\.$/g, '').toLowerCase()
      const port = url.port === '' ? (url.protocol === 'http:' ? '80' : '443') : url.port
      return isLoopback(host) || isDirect.some((one) => one(host, port)) ? undefined : proxy
    },
  }
}

function proxyOf(text: string, name: string): URL | undefined {
  if (text === '') return undefined
  const url = URL.parse(text.includes('://') ? text : `http://${text}`)
  if (url && (url.protocol === 'http:' || url.protocol === 'https:')) return url
  // Not with its value: it may hold a password.
  throw new CodedError(
    'SETTING_INVALID',
    `${name} (${name.toUpperCase()}) of the environment is not the address of a proxy: expected http://host:port or https://host:port`,
  )
}

type Exception = (host: string, port: string) => boolean

function parseException(text: string): Exception {
  const [, bracketed, inPort] = /^\[([^\]]*)\](?::(\d+))?$/.exec(text) ?? []
  const [, named, namedPort] = /^([^:]*):(\d+)$/.exec(text) ?? []
  const target = (bracketed ?? named ?? text)
    .replace(/^\*?\./, '')
    .replace(/\.$/, '')
    .toLowerCase()
  const onPort = inPort ?? namedPort
  const isHost = hostTest(target)
  return (host, port) => (onPort === undefined || onPort === port) && isHost(host)
}

function hostTest(target: string): (host: string) => boolean {
  if (target === '*') return () => true
  const [address = '', bits] = target.split('/')
  const version = isIP(address)
  if (version === 0) return (host) => host === target || host.endsWith(`.${target}`)
  const most = version === 4 ? 32 : 128
  const length = bits === undefined ? most : Number(bits)
  if (!Number.isInteger(length) || length < 0 || length > most) return () => false
  const net = new BlockList()
  net.addSubnet(address, length, version === 4 ? 'ipv4' : 'ipv6')
  return (host) => isIP(host) === version && net.check(host, isIPv4(host) ? 'ipv4' : 'ipv6')
}
