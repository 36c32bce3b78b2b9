import type { Login } from '../../core/docker-config.ts'
import type { HashPool } from '../../core/hash-pool.ts'
import { createHttpClient } from '../../core/http-client.ts'
import { createRegistryClient } from '../../core/registry-client.ts'
import type { AddressPolicy } from './address-policy.ts'
import { describeUrl, parseHttpUrl } from './http-request.ts'
import { openHttpSource } from './http-source.ts'
import type { Source, SourcePlace } from './source.ts'
import { imageScheme, parseImageAddress, type ImageAddress } from './image-address.ts'
import { openImageSource } from './image-source.ts'

export interface OpenOptions {
  readonly signal: AbortSignal
  /** Waits before the next try, ms; one more try than entries. Reset by every byte that arrives. */
  readonly retryDelaysMs: readonly number[]
  /** Where connections may go; without one, anywhere. */
  readonly policy?: AddressPolicy
  /** Of an image for several. */
  readonly architecture?: string | undefined
  /** Who we are at a registry, by docker's name for it; nobody unless given. */
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
  /** Name or address of the server, as in a URL. */
  readonly host: string
  open(options: OpenOptions): Promise<Source>
}

/** `http://`, `https://` or `docker://`. Throws SOURCE_INVALID. */
export function parseSourceAddress(text: string): SourceAddress {
  if (!text.startsWith(imageScheme)) {
    const url = parseHttpUrl(text)
    return {
      label: describeUrl(url),
      host: url.hostname,
      open: (options) => openHttpSource(text, options),
    }
  }
  const image = parseImageAddress(text)
  return {
    label: image.label,
    host: image.registry.hostname,
    open: (options) => openRegistryImage(image, options),
  }
}

async function openRegistryImage(
  { registry, loginHost, name, reference, label }: ImageAddress,
  { findLogin, policy, ...options }: OpenOptions,
): Promise<Source> {
  const http = createHttpClient(registry, {
    ...(findLogin ? { findLogin: () => findLogin(loginHost) } : {}),
    ...(policy ? { connections: policy } : {}),
  })
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
