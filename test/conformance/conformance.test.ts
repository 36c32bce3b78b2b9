import { afterAll, beforeAll } from 'vitest'
import { createHashPool } from '../../core/hash-pool.ts'
import { createLog } from '../../core/log.ts'
import { createMetrics } from '../../registry/metrics.ts'
import { createServer } from '../../registry/server.ts'
import { openStore } from '../../registry/store.ts'
import { createTempFolder } from '../fixtures/temp-folder.ts'
import { conformance } from './conformance.ts'

const stack = new AsyncDisposableStack()
let url = ''

beforeAll(async () => {
  const log = createLog('silent')
  const folder = stack.use(await createTempFolder())
  const hashPool = stack.use(createHashPool({ threads: 1 }))
  const store = stack.use(await openStore(folder.path, { hashPool, log }))
  const app = createServer({ store, log, metrics: createMetrics(), guard: 'loopback' })
  stack.defer(() => app.close())
  url = await app.listen({ host: '127.0.0.1', port: 0 })
})

afterAll(() => stack.disposeAsync())

conformance(() => url)
