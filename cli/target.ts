import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { openDockerConfig } from '../core/docker-config.ts'
import { CodedError } from '../core/errors.ts'
import { createHashPool, type HashPool } from '../core/hash-pool.ts'
import { createHttpClient, type HttpClient } from '../core/http-client.ts'
import { createLog } from '../core/log.ts'
import { createRegistryClient } from '../core/registry-client.ts'
import type { Registry } from '../core/registry.ts'
import type { AttemptDeps } from '../importer/attempts.ts'
import { createImages, type Images } from '../importer/images.ts'
import { createImportLog } from '../importer/import-log.ts'
import type { ImportRecord, KeptRequest } from '../importer/import-record.ts'
import { selectImports, type Imports } from '../importer/imports.ts'
import { createApiClient } from './api-client.ts'
import { openLocalStore } from './local-store.ts'
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
  readonly imports: Pick<Imports, 'list'>
  /** Keeps the record of an import that this process did, where the store is its own. */
  readonly keepRecord: (record: ImportRecord, request: KeptRequest) => Promise<void>
  /** Where images that are in it already are found; only where the store is its own. */
  readonly reuse: AttemptDeps['reuse']
  readonly hashPool: HashPool
  readonly scratchFolder: string
}

/** The server's API, with docker's login for it; throws SETTING_INVALID for something that is not an HTTP address. */
export function openServer(server: string, env: Terminal['env']): HttpClient {
  const url = URL.canParse(server) ? new URL(server) : undefined
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new CodedError(
      'SETTING_INVALID',
      `--server (DVCR_SERVER): not an address: ${JSON.stringify(server)}; write http://127.0.0.1:5000`,
    )
  }
  return createHttpClient(url, { findLogin: () => openDockerConfig(env).find(url.host) })
}

/** The server, or with `--data` the store itself. Throws STORE_LOCKED, LAYOUT_UNKNOWN. */
export async function openTarget(flags: TargetFlags, { env }: Terminal): Promise<Target> {
  await using owned = new AsyncDisposableStack()
  const hashPool = owned.use(createHashPool())
  const scratchFolder = env['DVCR_SCRATCH'] ?? tmpdir()
  await mkdir(scratchFolder, { recursive: true })
  const shared = { hashPool, scratchFolder }
  const parts =
    flags.data === undefined
      ? serverParts(owned.use(openServer(flags.server, env)), shared)
      : await localParts(flags.data, { ...shared, env }, owned)
  const stack = owned.move()
  return { ...parts, ...shared, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

type Shared = Pick<Target, 'hashPool' | 'scratchFolder'>
type Parts = Omit<Target, keyof Shared | typeof Symbol.asyncDispose>

function serverParts(http: HttpClient, shared: Shared): Parts {
  const registry = createRegistryClient({ http, ...shared })
  return { registry, ...createApiClient(http), keepRecord: async () => {}, reuse: undefined }
}

async function localParts(
  data: string,
  { hashPool, env }: Shared & Pick<Terminal, 'env'>,
  owned: AsyncDisposableStack,
): Promise<Parts> {
  const log = createLog('warn')
  const store = owned.use(await openLocalStore({ data }, { env, hashPool, log }))
  const records = createImportLog(store.objects, log)
  return {
    registry: store.registry,
    images: createImages(store.registry),
    imports: {
      async list(options) {
        const kept = await records.load(new Date(0))
        return selectImports(
          kept.map(({ record }) => record),
          options,
        )
      },
    },
    reuse: { objects: store.objects, mountBlob: store.registry.mountBlob },
    keepRecord: (record, request) => records.save({ record, request }),
  }
}
