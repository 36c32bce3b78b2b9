import type { RequestListener } from 'node:http'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createLog } from '../core/log.ts'
import {
  createQueueSetup,
  ended,
  importOf,
  smallDisk,
  type QueueSetup,
} from '../test/fixtures/queue-setup.ts'
import { createImportLog } from './import-log.ts'
import { createMemorySecrets } from './import-secrets.ts'
import type { ImportRecord } from './import-record.ts'
import type { Imports } from './imports.ts'
import { createRunners } from './runners.ts'
import { openSharedImports } from './shared-imports.ts'

const log = createLog('silent')
const noKey = { idempotencyKey: undefined }
const credentials = { user: 'me', password: 'very-secret' }
const basic = `Basic ${Buffer.from('me:very-secret').toString('base64')}`

let setup: QueueSetup
beforeEach(async () => {
  setup = await createQueueSetup()
})
afterEach(() => setup[Symbol.asyncDispose]())

/** Only for who is known; holds back the end of the disk until `open`. */
function guardedDisk() {
  const gate = Promise.withResolvers<void>()
  const asked = Promise.withResolvers<void>()
  const listener: RequestListener = (request, response) => {
    if (request.headers.authorization !== basic) return void response.writeHead(401).end()
    response.writeHead(200, { 'content-length': smallDisk.length })
    response.write(smallDisk.subarray(0, 100_000))
    asked.resolve()
    void gate.promise.then(() => response.end(smallDisk.subarray(100_000)))
  }
  return { listener, open: gate.resolve, asked: asked.promise }
}

/** Every file of the store that holds a secret, however it is written. */
async function filesWithSecrets(): Promise<string[]> {
  const entries = await readdir(setup.store.path, { recursive: true, withFileTypes: true })
  const found: string[] = []
  for (const entry of entries.filter((one) => one.isFile())) {
    const path = join(entry.parentPath, entry.name)
    // One may just go.
    const text = await readFile(path, 'latin1').catch(() => '')
    if (text.includes('very-secret') || text.includes(basic.slice(6))) found.push(path)
  }
  return found
}

async function lacking(imports: Imports, { id }: ImportRecord): Promise<void> {
  await expect
    .poll(() => imports.get(id))
    .toMatchObject({ state: 'queued', error: { code: 'CREDENTIALS_REQUIRED', retryable: false } })
}

describe('credentials of an import', () => {
  test.each([
    ['the request', (source: string) => importOf(source, { credentials })],
    ['its address', (source: string) => importOf(source.replace('//', '//me:very-secret@'))],
  ])('from %s are in one file for its owner until the end, over restarts', async (_from, want) => {
    const { listener, open, asked } = guardedDisk()
    const queue = await setup.openQueue()
    const created = await queue.create(want(await setup.serveDisk(listener)), noKey)
    await asked
    const [path = '', ...others] = await filesWithSecrets()
    expect(others).toEqual([])
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(path).toContain(created.id)
    expect(JSON.stringify(await queue.get(created.id))).not.toContain('secret')
    await queue[Symbol.asyncDispose]()
    await using next = await setup.openQueue()
    open()
    expect(await ended(next, created)).toMatchObject({ state: 'succeeded' })
    await expect.poll(filesWithSecrets).toEqual([])
  })

  test('go with an import that fails, is cancelled, or could not be taken', async () => {
    await using queue = await setup.openQueue()
    const denied = await setup.serveDisk((_in, out) => void out.writeHead(403).end())
    const failed = await queue.create(importOf(denied, { credentials }), noKey)
    expect(await ended(queue, failed)).toMatchObject({ error: { code: 'SOURCE_DENIED' } })
    const { listener, asked } = guardedDisk()
    const held = await queue.create(
      importOf(await setup.serveDisk(listener), { credentials }),
      noKey,
    )
    await asked
    await queue.cancel(held.id)
    await expect.poll(filesWithSecrets).toEqual([])
    const records = createImportLog(setup.store.objects, log)
    const full = { ...records, save: () => Promise.reject(new Error('full')) }
    await using refusing = await setup.openQueue({ records: full })
    await expect(refusing.create(importOf(denied, { credentials }), noKey)).rejects.toThrow('full')
    await expect.poll(filesWithSecrets).toEqual([])
  })

  test('are not part of what makes two requests of one key the same', async () => {
    await using queue = await setup.openQueue()
    const { listener, open } = guardedDisk()
    const source = await setup.serveDisk(listener)
    const key = { idempotencyKey: 'k' }
    const first = await queue.create(importOf(source, { credentials }), key)
    const rotated = importOf(source, { credentials: { user: 'me', password: 'other' } })
    expect((await queue.create(rotated, key)).id).toBe(first.id)
    open()
    await ended(queue, first)
  })

  test('that are gone are waited for, and the import goes on with them', async () => {
    const { listener, open, asked } = guardedDisk()
    const source = await setup.serveDisk(listener)
    const queue = await setup.openQueue({ secrets: createMemorySecrets() })
    const created = await queue.create(importOf(source, { credentials }), noKey)
    const other = await queue.create(importOf(source, { credentials, tag: '13' }), noKey)
    await asked
    await queue[Symbol.asyncDispose]()
    await using next = await setup.openQueue({ secrets: createMemorySecrets() })
    await lacking(next, created)
    await lacking(next, other)
    expect(await next.cancel(other.id)).toMatchObject({ state: 'cancelled' })
    const wrong = { user: 'm:e', password: 'x' }
    const refused = next.giveCredentials(created.id, wrong)
    await expect(refused).rejects.toMatchObject({ code: 'SOURCE_INVALID' })
    open()
    expect((await next.giveCredentials(created.id, credentials)).error).toBeUndefined()
    const record = await ended(next, created)
    expect(record).toMatchObject({ state: 'succeeded' })
    expect(record.error).toBeUndefined()
    expect(await next.giveCredentials(created.id, credentials)).toEqual(record)
    await expect.poll(filesWithSecrets).toEqual([])
  })
})

describe('credentials where several processes share a store', () => {
  async function openProcess() {
    const { objects } = setup.store
    const records = createImportLog(objects, log)
    const runners = createRunners(objects, 400)
    const secrets = createMemorySecrets()
    const queue = await setup.openQueue({ records, secrets, runner: runners.id })
    const shared = { queue, records, secrets, objects, runners, log }
    return openSharedImports({ ...shared, retentionMs: 3_600_000, beatEveryMs: 50 })
  }

  test('are never in the store; whoever gets them again goes on', async () => {
    const { listener, open, asked } = guardedDisk()
    const source = await setup.serveDisk(listener)
    const one = await openProcess()
    const created = await one.create(importOf(source, { credentials }), noKey)
    await asked
    await expect.poll(filesWithSecrets).toEqual([])
    await one[Symbol.asyncDispose]()
    await using two = await openProcess()
    await using three = await openProcess()
    await lacking(two, created)
    await lacking(three, created)
    open()
    await three.giveCredentials(created.id, credentials)
    await two.giveCredentials(created.id, credentials)
    expect(await ended(two, created)).toMatchObject({ state: 'succeeded' })
    expect(await ended(three, created)).toMatchObject({ state: 'succeeded' })
    await expect.poll(filesWithSecrets).toEqual([])
  })
})
