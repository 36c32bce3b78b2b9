import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { CodedError } from '../core/errors.ts'
import { createHashPool, type HashPool } from '../core/hash-pool.ts'
import { createHttpClient, type HttpClient } from '../core/http-client.ts'
import { createLog } from '../core/log.ts'
import { createRegistryClient } from '../core/registry-client.ts'
import type { Registry } from '../core/registry.ts'
import { createImages, type Images } from '../importer/images.ts'
import { createApiClient } from './api-client.ts'
import type { Terminal } from './terminal.ts'

/** Flags that say which store a command works on. */
export interface TargetFlags {
  readonly server: string
  readonly data?: string
}

/** A registry to put images into, and its images. */
export interface Target extends AsyncDisposable {
  readonly registry: Registry
  readonly images: Images
  readonly hashPool: HashPool
  readonly scratchFolder: string
}

/** The server's API; throws SETTING_INVALID for something that is not an HTTP address. */
export function openServer(server: string): HttpClient {
  const url = URL.canParse(server) ? new URL(server) : undefined
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new CodedError(
      'SETTING_INVALID',
      `--server (DVCR_SERVER): not an address: ${JSON.stringify(server)}; write http://127.0.0.1:5000`,
    )
  }
  return createHttpClient(url)
}

/** The server, or with `--data` the folder itself. Throws STORE_LOCKED, LAYOUT_UNKNOWN. */
export async function openTarget(flags: TargetFlags, { env }: Terminal): Promise<Target> {
  await using owned = new AsyncDisposableStack()
  const hashPool = owned.use(createHashPool())
  const scratchFolder = env['DVCR_SCRATCH'] ?? tmpdir()
  await mkdir(scratchFolder, { recursive: true })
  let registry: Registry
  let images: Images
  if (flags.data === undefined) {
    const http = owned.use(openServer(flags.server))
    registry = createRegistryClient({ http, hashPool, scratchFolder })
    images = createApiClient(http).images
  } else {
    const { openStore } = await import('../registry/store.ts')
    const store = owned.use(await openStore(flags.data, { hashPool, log: createLog('warn') }))
    registry = store.registry
    images = createImages(registry)
  }
  const stack = owned.move()
  return {
    registry,
    images,
    hashPool,
    scratchFolder,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}
