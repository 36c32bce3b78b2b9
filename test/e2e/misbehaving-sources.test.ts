import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ImportQueueDeps } from '../../importer/import-queue-deps.ts'
import type { ImportRecord } from '../../importer/import-record.ts'
import type { ImportQueue } from '../../importer/imports.ts'
import { createQueueSetup, ended, importOf, type QueueSetup } from '../fixtures/queue-setup.ts'
import { content, other, rows, sha256, shorter, type End } from './misbehaving-rows.ts'
import { readStoreFolder } from './store-folder.ts'
import { startWrongServer, type Beginning, type WrongServer } from './wrong-answers.ts'

const change: Partial<ImportQueueDeps> = {
  maxRunning: 8,
  retryDelaysMs: [1, 20, 50, 50],
  floorSpeed: { bytesPerSecond: 512 * 1024, windowMs: 1000 },
}
const owned = new AsyncDisposableStack()
const layers = new Map<string | undefined, End>()

beforeAll(async () => {
  const setup = owned.use(await createQueueSetup())
  await using queue = await setup.openQueue()
  for (const [what, bytes] of [
    ['right', content],
    ['changed', other],
    ['changed', shorter],
  ] as const) {
    const source = await setup.serveDisk((_request, response) => void response.end(bytes))
    const { image } = await ended(
      queue,
      await importInto(queue, source, `good/${what}-${bytes.length}`),
    )
    layers.set(image?.layerDigest, what)
  }
  if (layers.size !== 3 || layers.has(undefined)) throw new Error('a right import failed')
})
afterAll(() => owned.disposeAsync())

const importInto = (
  queue: ImportQueue,
  source: string,
  name: string,
  isChecked = false,
): Promise<ImportRecord> =>
  queue.create(importOf(source, { name, checksums: isChecked ? { sha256 } : {} }), {
    idempotencyKey: undefined,
  })

/** The disk that it has become, or the code of its failure. */
const endOf = ({ error, image }: ImportRecord): string | undefined =>
  error ? error.code : layers.get(image?.layerDigest)

/** Until its end, with a restart in between where it stalls. */
async function importFrom(
  server: WrongServer,
  setup: QueueSetup,
  { beginning, isChecked = false }: { beginning: Beginning; isChecked?: boolean | undefined },
): Promise<ImportRecord> {
  // It must not go on by itself before it is left.
  const patient = { floorSpeed: { bytesPerSecond: 0, windowMs: 8000 } }
  const first = beginning === 'stalls' ? { ...change, ...patient } : change
  await using queue = await setup.openQueue(first)
  const { id } = await importInto(queue, server.url, 'a', isChecked)
  if (beginning !== 'stalls') return await ended(queue, { id })
  let isOver = false
  const end = ended(queue, { id }).then(
    () => (isOver = true),
    // The queue was left before.
    () => undefined,
  )
  const isKept = () => setup.store.objects.get(`v1/imports-state/${id}/state`)
  while (!isOver && !(await isKept())) await sleep(20)
  await queue[Symbol.asyncDispose]()
  await end
  await using next = await setup.openQueue(change)
  return await ended(next, { id })
}

describe.concurrent.each([
  ['over one connection', 'breaks'],
  ['over several connections', 'drips'],
  ['and is gone on with after a restart', 'stalls'],
] as const)('a source that is read %s', (_how, beginning) => {
  it.each(rows)('and $does', async ({ ends, isChecked, ...wrong }) => {
    await using setup = await createQueueSetup()
    const { store } = setup
    await using server = await startWrongServer(content, beginning, wrong)
    const record = await importFrom(server, setup, { beginning, isChecked })
    const expected = [typeof ends === 'string' ? ends : ends[beginning]].flat()
    expect(expected).toContain(endOf(record))
    const { manifests } = store.registry.repository('a')
    const image = await manifests.get({ kind: 'tag', tag: '12' })
    expect(image?.digest).toBe(record.image?.digest)
    if (record.error?.retryable === true) {
      server.heal()
      await using queue = await setup.openQueue(change)
      const again = endOf(await ended(queue, await queue.retry(record.id)))
      if (again !== 'right') throw new Error(`done again from a server that is well: ${again}`)
    }
    const left = await readStoreFolder(store.path)
    expect(left).toMatchObject({ broken: [], orphans: [], uploads: [], scratch: [] })
    expect(await store.objects.list('v1/imports-state/', {})).toEqual([])
  })
})
