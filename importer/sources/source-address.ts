import type { TlsTrust } from '../../core/connections.ts'
import type { Login } from '../../core/docker-config.ts'
import { CodedError } from '../../core/errors.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import { createHttpClient, type HttpClient } from '../../core/http-client.ts'
import type { Proxies } from '../../core/proxies.ts'
import {
  formatImageReference,
  parseImageReference,
  type ImageReference,
} from '../../core/reference.ts'
import { createRegistryClient } from '../../core/registry-client.ts'
import type { Registry } from '../../core/registry.ts'
import type { Checksums } from '../checksums.ts'
import type { AddressPolicy } from './address-policy.ts'
import { loginOf, type Credentials } from './credentials.ts'
import type { FloorSpeed } from './floor-speed.ts'
import { parseHttpUrl } from './http-request.ts'
import { fetchChecksums, mergeChecksums } from './fetched-checksums.ts'
import { openHttpSource, webAddress } from './http-source.ts'
import { parseS3Address, s3Scheme } from './s3-address.ts'
import type { WebAddress } from './web-content.ts'
import type { Source, SourcePlace } from './source.ts'
import { imageScheme, parseImageAddress, type ImageAddress } from './image-address.ts'
import { openImageSource } from './image-source.ts'

const storedScheme = 'image:'

/** What a request says of where an image comes from, without secrets. */
export interface WantedSource {
  readonly source: string
  /** The same content elsewhere. */
  readonly mirrors?: readonly string[]
  /** A list with checksums of the file. */
  readonly checksumsUrl?: string | undefined
  /** Of `s3://`; AWS without. */
  readonly s3Endpoint?: string | undefined
  readonly s3Region?: string | undefined
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
  /** The one that is imported into. */
  readonly registry: Registry
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
  /** Where it is an image of the registry that is imported into. */
  readonly stored?: ImageReference
  /** Those that were given, and those in the list at `checksumsUrl`. Throws as `open`. */
  findChecksums(options: OpenOptions): Promise<Checksums>
  /** Each time from the start; a mirror that failed comes last from then on. */
  open(options: OpenOptions & { readonly checksums: Checksums }): Promise<Source>
}

/**
 * `http://`, `https://`, `s3://`, `docker://` or `image:`. Throws SOURCE_INVALID, also for what does not fit
 * together.
 */
export function parseSource(wanted: WantedSource, credentials?: Credentials): SourceAddress {
  const { source, ca, insecureSkipVerify: insecure = false } = wanted
  const tls = { ca, insecure }
  if (source.startsWith(storedScheme)) return parseStored(wanted, credentials)
  if (source.startsWith(imageScheme)) {
    requireNone(wanted, imageScheme, ['mirrors', 'checksumsUrl', 's3Endpoint', 's3Region'])
    const image = parseImageAddress(source)
    const login = credentials && loginOf(credentials)
    return {
      label: image.label,
      hosts: [image.registry.hostname],
      findChecksums: () => Promise.resolve(wanted.checksums),
      open: (options) => openRegistryImage(image, { ...wanted, ...options, tls, login }),
    }
  }
  const { addresses, hosts, fileName, originUrl } = source.startsWith(s3Scheme)
    ? parseBucketObject(wanted, credentials)
    : parseWebAddresses(wanted, credentials)
  const list = wanted.checksumsUrl === undefined ? undefined : parseOther(wanted.checksumsUrl)
  const listAddress =
    list && webAddress(list.text, list.url.origin === originUrl?.origin ? credentials : undefined)
  return {
    label: addresses[0]?.label ?? '',
    hosts: [...hosts, ...(list ? [list.url.hostname] : [])],
    findChecksums: async (options) =>
      listAddress
        ? mergeChecksums(
            wanted.checksums,
            await fetchChecksums(listAddress, fileName, { ...options, tls }),
            listAddress.label,
          )
        : wanted.checksums,
    open({ checksums, ...options }) {
      const isChecked = Object.values(checksums).some((hex) => hex !== undefined)
      return openHttpSource(addresses, { ...options, tls, isChecked })
    },
  }
}

/** `image:name:tag` or `image:name@digest`. That the caller may pull it is for whoever takes the request. */
export function storedImageOf(source: string): ImageReference | undefined {
  if (!source.startsWith(storedScheme)) return undefined
  return parseImageReference(source.slice(storedScheme.length))
}

function parseStored(wanted: WantedSource, credentials: Credentials | undefined): SourceAddress {
  requireNone(wanted, storedScheme, ['mirrors', 'checksumsUrl', 's3Endpoint', 's3Region', 'ca'])
  const stored = parseImageReference(wanted.source.slice(storedScheme.length))
  const isChecked = Object.values(wanted.checksums).some((hex) => hex !== undefined)
  if (isChecked || credentials !== undefined) {
    throw new CodedError(
      'SOURCE_INVALID',
      'an image of this registry takes neither checksums nor credentials',
    )
  }
  const label = `${storedScheme}${formatImageReference(stored)}`
  const { name, reference } = stored
  return {
    label,
    hosts: [],
    stored,
    findChecksums: () => Promise.resolve({}),
    open: (options) =>
      openImageSource(options.registry.repository(name), {
        ...wanted,
        ...options,
        label,
        reference,
      }),
  }
}

interface WebSource {
  /** Not empty. */
  readonly addresses: WebAddress[]
  readonly hosts: readonly string[]
  /** As a list of checksums names it. */
  readonly fileName: string
  /** Whose origin the credentials are for. */
  readonly originUrl: URL | undefined
}

function parseWebAddresses(
  { mirrors = [], source, ...wanted }: WantedSource,
  credentials: Credentials | undefined,
): WebSource {
  requireNone(wanted, 'http(s)://', ['s3Endpoint', 's3Region'])
  const url = parseHttpUrl(source)
  const others = mirrors.map(parseOther)
  return {
    addresses: [
      webAddress(source, credentials),
      ...others.map((other) =>
        webAddress(other.text, other.url.origin === url.origin ? credentials : undefined),
      ),
    ],
    hosts: [url.hostname, ...others.map((other) => other.url.hostname)],
    fileName: decodedName(url.pathname),
    originUrl: url,
  }
}

function parseBucketObject(
  { source, s3Endpoint, s3Region, ...wanted }: WantedSource,
  credentials: Credentials | undefined,
): WebSource {
  requireNone(wanted, s3Scheme, ['mirrors'])
  const place = {
    ...(s3Endpoint === undefined ? {} : { endpoint: s3Endpoint }),
    ...(s3Region === undefined ? {} : { region: s3Region }),
  }
  const { address, host, fileName } = parseS3Address(source, place, credentials)
  return { addresses: [address], hosts: [host], fileName, originUrl: undefined }
}

function decodedName(path: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1)
  try {
    return decodeURIComponent(name)
  } catch {
    // Not percent-encoded, then the name is what it is.
    return name
  }
}

/** A mirror or a list; its user info would be kept with the request. */
function parseOther(text: string): { readonly url: URL; readonly text: string } {
  const url = parseHttpUrl(text)
  if (url.username === '' && url.password === '') return { url, text }
  throw new CodedError(
    'SOURCE_INVALID',
    'mirrors and checksumsUrl have no user info: they are asked with the credentials of the source where it is the same server, else without',
  )
}

function requireNone(
  wanted: Partial<WantedSource>,
  scheme: string,
  names: readonly (keyof WantedSource)[],
): void {
  const given = names.find((name) => {
    const value = wanted[name]
    return Array.isArray(value) ? value.length > 0 : value !== undefined
  })
  if (given === undefined) return
  throw new CodedError('SOURCE_INVALID', `${given} does not go with a source ${scheme}…`)
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
