import { lookup as resolve, type LookupAddress } from 'node:dns'
import { BlockList, isIP, isIPv4, type LookupFunction } from 'node:net'
import { CodedError } from '../../core/errors.ts'

/** Where imports may connect to. */
export interface AddressPolicy {
  /** As it was set. */
  readonly text: string
  /**
   * Throws SOURCE_FORBIDDEN for a name that is refused whatever it resolves to, and for an address
   * that is. `host` as in a URL; an IPv6 address may have its brackets.
   */
  requireHost(host: string): void
  /**
   * Resolves a name once, to those of its addresses that may be connected to: so what is checked is
   * what is connected to. Fails with SOURCE_FORBIDDEN where none is left.
   */
  readonly lookup: LookupFunction
}

/** What `open` refuses: link-local addresses and others that clouds have metadata services at. */
const metadataNets = [
  '169.254.0.0/16',
  '100.100.100.200/32',
  '168.63.129.16/32',
  '192.0.0.192/32',
  'fe80::/10',
  'fd00:ec2::/32',
  'fd20:ce::/32',
]

/** What `restricted` refuses: all that is not public. @see IANA special-purpose address registries */
const specialNets = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '168.63.129.16/32',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/3',
  '::/3',
  '2001::/23',
  '2001:db8::/32',
  '2002::/16',
  '3fff::/20',
  '4000::/2',
  '8000::/1',
]

const bases = { open: netsOf(metadataNets), restricted: netsOf(specialNets) }

/** Of each version its own: in one list an IPv4 address also counts as the IPv6 one that maps it. */
interface Nets {
  readonly ipv4: BlockList
  readonly ipv6: BlockList
}

interface Rules {
  readonly nets: Nets
  /** Names, and with `*.` in front all names below. */
  readonly names: string[]
}

/**
 * Reads `open` or `restricted`, followed by rules with commas between: `+` allows and `-` refuses an
 * address, a network (10.1.0.0/16) or a name (images.example, *.example). What is refused by a rule
 * stays refused; a name that is allowed may resolve to any address that no rule refuses. Throws
 * SETTING_INVALID.
 */
export function parseAddressPolicy(text: string): AddressPolicy {
  const [first = '', ...rest] = text.split(',').map((part) => part.trim())
  if (first !== 'open' && first !== 'restricted') throw invalidPolicy(text, first)
  const base = bases[first]
  const allowed: Rules = { nets: netsOf([]), names: [] }
  const refused: Rules = { nets: netsOf([]), names: [] }
  for (const part of rest) {
    const rules = part.startsWith('+') ? allowed : refused
    if (!/^[+-]/.test(part) || !addRule(rules, part.slice(1).toLowerCase())) {
      throw invalidPolicy(text, part)
    }
  }

  function isAllowed(name: string, address: string): boolean {
    if (includes(refused.nets, address)) return false
    return (
      includes(allowed.nets, address) || matches(allowed.names, name) || !includes(base, address)
    )
  }

  const forbidden = (what: string): CodedError =>
    new CodedError(
      'SOURCE_FORBIDDEN',
      `this server does not import from ${what}: its policy is ${text}; import with dvcr from a machine that may, or allow it with --import-policy`,
    )

  return {
    text,
    requireHost(host) {
      const name = nameOf(host)
      if (matches(refused.names, name)) throw forbidden(name)
      if (isIP(name) !== 0 && !isAllowed(name, name)) throw forbidden(name)
    },
    lookup(hostname, options, callback) {
      const name = nameOf(hostname)
      resolve(hostname, { ...options, all: true }, (error, addresses) => {
        if (error) return callback(error, [])
        const usable = addresses.filter(({ address }) => isAllowed(name, address))
        const [chosen] = usable
        if (!chosen) return callback(forbidden(`${name} (${listOf(addresses)})`), [])
        if (options.all === true) return callback(null, usable)
        return callback(null, chosen.address, chosen.family)
      })
    },
  }
}

const listOf = (addresses: readonly LookupAddress[]): string =>
  addresses.map(({ address }) => address).join(', ')

/** Without brackets, in lower case, without the dot that ends a full name. */
const nameOf = (host: string): string => host.replace(/^\[|\]$|\.$/g, '').toLowerCase()

function addRule({ nets, names }: Rules, target: string): boolean {
  if (addNet(nets, target)) return true
  // What looks like an address and is none must not become a name that nothing has.
  if (!/^(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z_][a-z0-9_-]*$/.test(target)) {
    return false
  }
  names.push(target)
  return true
}

function netsOf(texts: readonly string[]): Nets {
  const nets = { ipv4: new BlockList(), ipv6: new BlockList() }
  for (const text of texts) addNet(nets, text)
  return nets
}

/** False for what is neither an address nor a network. */
function addNet(nets: Nets, text: string): boolean {
  const [address = '', length, ...more] = text.split('/')
  const version = isIP(address)
  const most = version === 4 ? 32 : 128
  const bits = length === undefined ? most : /^\d{1,3}$/.test(length) ? Number(length) : -1
  if (version === 0 || bits < 0 || bits > most || more.length > 0) return false
  const kind = version === 4 ? 'ipv4' : 'ipv6'
  nets[kind].addSubnet(address, bits, kind)
  return true
}

/** True where the net has the address, or the IPv4 address that it leads to. */
function includes(nets: Nets, address: string): boolean {
  const meant = innerAddress(address) ?? address
  const kind = isIPv4(meant) ? 'ipv4' : 'ipv6'
  return nets[kind].check(meant, kind)
}

/**
 * The IPv4 address that an IPv6 address stands for: mapped, or translated by NAT64.
 * @see RFC 4291 §2.5.5.2, RFC 6052 §2.1
 */
function innerAddress(address: string): string | undefined {
  if (isIPv4(address)) return undefined
  const host = `http://[${address.replace(/%.*$/, '')}]`
  const found = /^\[(?:::ffff|64:ff9b:):(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,4})\]$/.exec(
    URL.parse(host)?.hostname ?? '',
  )
  if (!found) return undefined
  const [high, low] = [found[1] ?? '0', found[2] ?? '0'].map((part) => parseInt(part, 16))
  return [high, low].flatMap((part = 0) => [part >> 8, part & 0xff]).join('.')
}

const matches = (names: readonly string[], name: string): boolean =>
  names.some((one) => (one.startsWith('*.') ? name.endsWith(one.slice(1)) : name === one))

function invalidPolicy(text: string, part: string): CodedError {
  return new CodedError(
    'SETTING_INVALID',
    `not a policy for imports: ${JSON.stringify(text)}: ${JSON.stringify(part)}; expected open or restricted, then rules such as +10.1.0.0/16, +images.example, -*.example with commas between`,
  )
}
