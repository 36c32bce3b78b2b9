import { createHttpClient } from '../core/http-client.ts'
import { createRegistryClient } from '../core/registry-client.ts'
import { createHashPool } from '../core/hash-pool.ts'
import type { Registry } from '../core/registry.ts'
import { robotToken, startAccessServer } from './fixtures/access-server.ts'
import { createTempFolder } from './fixtures/temp-folder.ts'
import { registryContract } from './registry-contract.ts'

/** A client of a server that lets only those in who have a token for each request. */
async function openProtected(): Promise<AsyncDisposable & { readonly registry: Registry }> {
  await using owned = new AsyncDisposableStack()
  const server = owned.use(await startAccessServer())
  const login = { kind: 'password', user: 'robot', password: robotToken } as const
  const http = createHttpClient(new URL(server.url), { findLogin: () => Promise.resolve(login) })
  owned.use(http)
  const hashPool = owned.use(createHashPool({ threads: 1 }))
  const { path: scratchFolder } = owned.use(await createTempFolder())
  const registry = createRegistryClient({ http, hashPool, scratchFolder })
  const stack = owned.move()
  return { registry, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

registryContract('a server with authentication', openProtected)
