import { BlockList, isIP, isIPv6 } from 'node:net'

/** Tells the address of a client from those of proxies in front of us. */
export interface ClientAddresses {
  /**
   * The address that sent a request: of the connection, or where a trusted proxy is at its other
   * end, the last one in `X-Forwarded-For` that is not one of theirs.
   */
  of(connection: string | undefined, forwardedFor: string | undefined): string
}

/** `trusted`: addresses and networks (`10.0.0.0/8`). */
export function createClientAddresses(trusted: readonly string[]): ClientAddresses {
  const proxies = new BlockList()
  for (const text of trusted) {
    const [address = '', bits] = text.split('/')
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    if (bits === undefined) proxies.addAddress(address, family)
    else proxies.addSubnet(address, Number(bits), family)
  }
  const isProxy = (address: string): boolean =>
    isIP(address) !== 0 && proxies.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
  return {
    of(connection = 'unknown', forwardedFor = '') {
      let client = plain(connection)
      // From the right: what is left of a stranger's address is the stranger's own word.
      const hops = forwardedFor.split(',').map((hop) => plain(hop.trim()))
      while (isProxy(client)) {
        const next = hops.pop()
        if (next === undefined || isIP(next) === 0) break
        client = next
      }
      return client
    },
  }
}

/** IPv4 that came over an IPv6 socket, as IPv4. */
function plain(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address
}
