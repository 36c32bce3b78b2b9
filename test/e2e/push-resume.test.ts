import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { digestOf } from '../../core/digest.ts'
import { createHashPool } from '../../core/hash-pool.ts'
import { createHttpClient } from '../../core/http-client.ts'
import { createRegistryClient } from '../../core/registry-client.ts'
import { startBreakingProxy } from '../fixtures/breaking-proxy.ts'
import { startDockerRegistry, startDvcr, type RunningServer } from '../fixtures/servers.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'

const MiB = 1024 * 1024
const { signal } = new AbortController()

async function startOurs(): Promise<RunningServer> {
  const data = await createTempFolder()
  const server = await startDvcr({ data: data.path })
  return {
    ...server,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      await data[Symbol.asyncDispose]()
    },
  }
}

it.each([
  { what: 'dvcr', start: startOurs, mostSent: 125 * MiB },
  // It keeps nothing of a request that breaks: from the second on they are shorter.
  { what: "Debian's docker-registry", start: startDockerRegistry, mostSent: 185 * MiB },
])(
  'a push to $what that breaks goes on where it has got to',
  async ({ start, mostSent }) => {
    await using server = await start()
    await using proxy = await startBreakingProxy(server.url, [40 * MiB, 75 * MiB, 1000])
    await using http = createHttpClient(new URL(proxy.url))
    await using hashPool = createHashPool({ threads: 1 })
    await using scratch = await createTempFolder()
    const registry = createRegistryClient({ http, hashPool, scratchFolder: scratch.path })
    const { blobs } = registry.repository('a')
    const bytes = randomBytes(100 * MiB)
    const writer = await blobs.create({ signal, readBack: true })
    await writer.write(bytes)
    const { digest } = await writer.finish()
    await writer.commit()
    expect(digest).toBe(digestOf(bytes))
    expect(await blobs.stat(digest)).toEqual({ size: bytes.length })
    // What was in buffers when a connection broke is sent again, and no more.
    expect(proxy.sentBytes).toBeLessThan(mostSent)
  },
  120_000,
)
