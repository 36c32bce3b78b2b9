import type { TlsTrust } from '../../core/connections.ts'
import type { Login } from '../../core/docker-config.ts'
import { CodedError } from '../../core/errors.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import { createHttpClient, type HttpClient } from '../../core/http-client.ts'
import type { Proxies } from '../../core/proxies.ts'
import { createRegistryClient } from '../../core/registry-client.ts'
import type { Checksums } from '../checksums.ts'
import type { AddressPolicy } from './address-policy.ts'
import { loginOf, type Credentials } from './credentials.ts'
import type { FloorSpeed } from './floor-speed.ts'
import { parseHttpUrl } from './http-request.ts'
import { openHttpSource, webAddress } from './http-source.ts'
import type { Source, SourcePlace } from './source.ts'
import { imageScheme, parseImageAddress, type ImageAddress } from './image-address.ts'
import { openImageSource } from './image-source.ts'

/** What a request says of where an image comes from, without secrets. */
export interface WantedSource {
  readonly source: string
  /** The same content elsewhere. */
  readonly mirrors?: readonly string[]
  /** PEM of authorities to trust besides the usual ones. */
  readonly ca?: string | undefined
  readonly insecureSkipVerify?: boolean
  readonly checksums: Checksums
  /** Of an image for several. */
  readonly architecture?: string | undefined
}

export interface OpenOptions {
  readonly signal: AbortSignal
  /** Waits before the next try, ms; one more try than entries. Reset by every byte that arrives. */
  readonly retryDelaysMs: readonly number[]
  readonly floorSpeed?: FloorSpeed
  /** Where connections may go; without one, anywhere. */
  readonly policy?: AddressPolicy
  readonly proxies?: Proxies
  /** Who we are at a registry where the request does not say it; nobody unless given. */
  readonly findLogin?: (host: string) => Promise<Login | undefined>
  /** Where to begin, where the source can. */
  readonly from?: SourcePlace | undefined
  readonly hashPool: HashPool
  readonly scratchFolder: string
  /** Bytes of the largest disk. */
  readonly maxVirtualSize: number
}

/** Something on the network that an image can be imported from. */
export interface SourceAddress {
  /** As records and logs may show it: no user info, query or fragment. */
  readonly label: string
  /** Names or addresses of the servers that it names, as in a URL. */
  readonly hosts: readonly string[]
  /** Each time from the start; a mirror that failed comes last from then on. */
  open(options: OpenOptions): Promise<Source>
}

/** `http://`, `https://` or `docker://`. Throws SOURCE_INVALID, also for credentials that do not fit. */
export function parseSource(wanted: WantedSource, credentials?: Credentials): SourceAddress {
  const { source, mirrors = [], ca, insecureSkipVerify: insecure = false } = wanted
  const tls = { ca, insecure }
  if (source.startsWith(imageScheme)) {
    requireNoMirrors(mirrors)
    const image = parseImageAddress(source)
    const login = credentials && loginOf(credentials)
    return {
      label: image.label,
      hosts: [image.registry.hostname],
      open: (options) => openRegistryImage(image, { ...wanted, ...options, tls, login }),
    }
  }
  const first = webAddress(source, credentials)
  const { origin, hostname } = parseHttpUrl(source)
  const others = mirrors.map((mirror) => parseMirror(mirror))
  const addresses = [
    first,
    ...others.map(({ url, text }) =>
      webAddress(text, url.origin === origin ? credentials : undefined),
    ),
  ]
  const isChecked = Object.values(wanted.checksums).some((hex) => hex !== undefined)
  return {
    label: first.label,
    hosts: [hostname, ...others.map(({ url }) => url.hostname)],
    open: (options) => openHttpSource(addresses, { ...options, tls, isChecked }),
  }
}

/** Its user info would be kept with the request. */
function parseMirror(text: string): { readonly url: URL; readonly text: string } {
  const url = parseHttpUrl(text)
  if (url.username === '' && url.password === '') return { url, text }
  throw new CodedError(
    'SOURCE_INVALID',
    'a mirror has no user info: it is asked with the credentials of the source where it is the same server, else without',
  )
}

function requireNoMirrors(mirrors: readonly string[]): void {
  if (mirrors.length === 0) return
  throw new CodedError('SOURCE_INVALID', 'only http:// and https:// sources have mirrors')
}

interface RegistryOptions extends OpenOptions, Pick<WantedSource, 'architecture'> {
  readonly tls: TlsTrust
  readonly login: Login | undefined
}

async function openRegistryImage(image: ImageAddress, options: RegistryOptions): Promise<Source> {
  const { name, reference, label } = image
  const http = await connectRegistry(image, options)
  try {
    const repository = createRegistryClient({ http, ...options }).repository(name)
    const source = await openImageSource(repository, { ...options, reference, label })
    return {
      ...source,
      async [Symbol.asyncDispose]() {
        await source[Symbol.asyncDispose]()
        await http[Symbol.asyncDispose]()
      },
    }
  } catch (error) {
    await http[Symbol.asyncDispose]()
    throw error
  }
}

/** One that is not to be trusted may also be one without TLS, as docker has it. */
async function connectRegistry(
  { registry, loginHost }: ImageAddress,
  { login, findLogin = () => Promise.resolve(undefined), ...options }: RegistryOptions,
): Promise<HttpClient> {
  const own = { ...options, findLogin: async () => login ?? (await findLogin(loginHost)) }
  const http = createHttpClient(registry, own)
  if (options.tls.insecure !== true || registry.protocol === 'http:') return http
  const ping = { method: 'GET', accept: [200, 401, 403, 404], signal: options.signal } as const
  try {
    await (await http.send('/v2/', ping)).body.dump()
    return http
  } catch (error) {
    await http[Symbol.asyncDispose]()
    const isPlain = error instanceof CodedError && error.code === 'TARGET_UNAVAILABLE'
    if (!isPlain) throw error
    return createHttpClient(new URL(registry.href.replace('https:', 'http:')), own)
  }
}
