import { afterAll, beforeAll, expect, test } from 'vitest'
import { createQueueSetup, importOf, type QueueSetup } from '../test/fixtures/queue-setup.ts'
import { keepCheckpoints } from './checkpoint-store.ts'
import { createLog } from '../core/log.ts'
import { judgeAttempts } from './fruitless.ts'
import { newImportRecord, separateSecrets } from './import-record.ts'

let setup: QueueSetup
beforeAll(async () => {
  setup = await createQueueSetup()
})
afterAll(() => setup[Symbol.asyncDispose]())

test('an import that takes the process down goes on while it comes further', async () => {
  const { request } = separateSecrets(importOf('http://a/disk'))
  const record = { ...newImportRecord('http://a/disk', request), attempts: 10 }
  const keeper = keepCheckpoints(record, {
    ...setup.store,
    log: createLog('silent'),
    everyBytes: 1,
  })
  const reach = (position: number): Promise<void> =>
    keeper.save({
      source: { offset: 0, pin: '"a"', length: 1000 },
      decoding: undefined,
      checksums: { bytes: 0, hashes: {} },
      head: Buffer.from('head'),
      pack: { position, layer: {}, encoder: undefined, version: 'v' },
    })
  expect(await judgeAttempts({ record, request }, keeper)).toBeUndefined()
  await reach(100)
  const once = await judgeAttempts({ record, request }, keeper)
  expect(once?.advanced).toEqual({ attempts: 10, position: 100 })
  const later = { ...record, attempts: 20 }
  expect(await judgeAttempts({ ...once, record: later, request }, keeper)).toBeUndefined()
  await reach(200)
  expect(await judgeAttempts({ ...once, record: later, request }, keeper)).toMatchObject({
    advanced: { attempts: 20, position: 200 },
  })
  const fewer = { record: { ...record, attempts: 9 }, request }
  expect(await judgeAttempts(fewer, keeper)).toBe(fewer)
})
