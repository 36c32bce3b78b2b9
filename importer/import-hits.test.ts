import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createLog } from '../core/log.ts'
import { parseDigest } from '../core/digest.ts'
import { mediaTypes } from '../core/manifest.ts'
import {
  createQueueSetup,
  ended,
  importOf,
  smallDisk,
  type QueueSetup,
} from '../test/fixtures/queue-setup.ts'
import type { ImportRecord, NewImport } from './import-record.ts'
import type { CreateImportOptions, ImportQueue } from './imports.ts'
import { createMemorySecrets } from './import-secrets.ts'
import { createRunners } from './runners.ts'
import { createImportLog } from './import-log.ts'

const file = gzipSync(smallDisk)
const hex = (algorithm: string): string => createHash(algorithm).update(file).digest('hex')
const [md5, sha256, sha512] = ['md5', 'sha256', 'sha512'].map(hex)
const anything: CreateImportOptions = { idempotencyKey: undefined, mayPull: () => true }

const parse = (digest: string | undefined) => parseDigest(digest ?? '')

let setup: QueueSetup
let queue: ImportQueue
let fetched: number
beforeEach(async () => {
  setup = await createQueueSetup()
  queue = await setup.openQueue()
  fetched = 0
})
afterEach(async () => {
  await queue[Symbol.asyncDispose]()
  await setup[Symbol.asyncDispose]()
})

const serve = (): Promise<string> =>
  setup.serveDisk((_request, response) => {
    fetched++
    response.end(file)
  })

async function run(
  source: string,
  change: Partial<NewImport>,
  options = anything,
): Promise<ImportRecord> {
  return ended(queue, await queue.create(importOf(source, change), options))
}

const hits = (): Promise<string[]> => setup.store.objects.list('v1/imports-hits/', {})

describe('a source whose checksum an image here was made of', () => {
  test.each([{ sha256 }, { sha512 }, { md5, sha256, sha512 }])(
    'is not transferred again, and the image is what a transfer makes: %o',
    async (checksums) => {
      const first = await run(await serve(), { checksums })
      const source = await serve()
      const reused = await run(source, { checksums, name: 'team/other', tag: '1' })
      expect(fetched).toBe(1)
      expect(reused.image).toMatchObject({
        layerDigest: first.image?.layerDigest,
        sourceBytes: 0,
        virtualSize: smallDisk.length,
        format: 'raw',
        storedFormat: 'qcow2',
        contentDigest: first.image?.contentDigest,
      })
      const nobody = { idempotencyKey: undefined, mayPull: () => false }
      const again = await run(source, { checksums, name: 'team/third' }, nobody)
      expect(fetched).toBe(2)
      expect(reused.image?.digest).toBe(again.image?.digest)
    },
  )

  test('is the same under the same name, and its tag is not taken from another image', async () => {
    const source = await serve()
    const first = await run(source, { checksums: { sha256 } })
    const again = await run(source, { checksums: { sha256 }, tag: '13' })
    expect([again.image?.digest, fetched]).toEqual([first.image?.digest, 1])
    const taken = importOf(await serve(), { checksums: { sha256 } })
    await expect(queue.create(taken, anything)).rejects.toMatchObject({ code: 'TAG_EXISTS' })
  })

  test.each<[string, Partial<NewImport>]>([
    ['another mode of storing', { store: 'as-is' }],
    ['another architecture', { architecture: 'arm64' }],
    ['a checksum that was not compared', { checksums: { sha256, md5 } }],
    ['only a weak checksum', { checksums: { md5 } }],
    ['no checksum', { checksums: {} }],
  ])('is transferred for %s', async (_what, change) => {
    await run(await serve(), { checksums: { sha256 } })
    const other = { checksums: { sha256 }, name: 'other', ...change }
    expect(await run(await serve(), other)).toMatchObject({ state: 'succeeded' })
    expect(fetched).toBe(2)
  })

  test('is transferred where a checksum of another kind is wrong, and then refused', async () => {
    await run(await serve(), { checksums: { sha256, md5 } })
    const wrong = { sha256, md5: '0'.repeat(32) }
    const record = await run(await serve(), { checksums: wrong, name: 'other' })
    expect([record.error?.code, fetched]).toEqual(['CHECKSUM_MISMATCH', 2])
  })

  test('is transferred for whom the repository of that image is hidden', async () => {
    await run(await serve(), { checksums: { sha256 }, name: 'secret/a' })
    const asked: string[] = []
    const mayPull = (name: string): boolean => !asked.push(name) || !name.startsWith('secret/')
    await run(await serve(), { checksums: { sha256 } }, { ...anything, mayPull })
    expect([fetched, asked]).toEqual([2, ['secret/a']])
    // Who asked is not known any more after a restart, nor to a process that takes it over.
    const runner = createRunners(setup.store.objects)
    await using waiting = await setup.openQueue({
      maxRunning: 0,
      runner: runner.id,
      secrets: createMemorySecrets(),
    })
    const later = importOf(await serve(), { checksums: { sha256 }, name: 'later' })
    const { id } = await waiting.create(later, anything)
    const stored = await createImportLog(setup.store.objects, createLog('silent')).read(id)
    if (stored) await queue.adopt(stored)
    expect(await ended(queue, { id })).toMatchObject({ state: 'succeeded' })
    expect(fetched).toBe(3)
  })

  test('is transferred where that image is gone or has lost a part, which is then forgotten', async () => {
    const first = await run(await serve(), { checksums: { sha256 }, name: 'gone' })
    const { blobs } = setup.store.registry.repository('gone')
    await blobs.delete(parse(first.image?.layerDigest))
    const second = await run(await serve(), { checksums: { sha256 }, name: 'b' })
    expect([fetched, (await hits()).length]).toEqual([2, 1])
    const b = setup.store.registry.repository('b')
    await b.manifests.delete({ kind: 'digest', digest: parse(second.image?.digest) })
    await run(await serve(), { checksums: { sha256 }, name: 'c' })
    expect([fetched, (await hits()).length]).toEqual([3, 1])
    await run(await serve(), { checksums: { sha256 }, name: 'd' })
    expect(fetched).toBe(3)
  })

  test('is not one of which somebody else only says so', async () => {
    const first = await run(await serve(), { name: 'honest' })
    const { manifests } = setup.store.registry.repository('honest')
    const stored = await manifests.get({ kind: 'tag', tag: '12' })
    const manifest = JSON.parse(Buffer.from(stored?.bytes ?? []).toString())
    manifest.annotations['io.dvcr.source.sha256'] = sha256
    const bytes = Buffer.from(JSON.stringify(manifest))
    await manifests.put({ mediaType: mediaTypes.ociManifest, bytes }, { tag: 'x', replace: true })
    await setup.store.objects.put(`v1/imports-hits/sha256/${sha256}/0.json`, Buffer.of(1), 'always')
    const second = await run(await serve(), { checksums: { sha256 }, name: 'b' })
    expect([fetched, second.image?.layerDigest]).toEqual([2, first.image?.layerDigest])
  })
})

describe('an image of this registry', () => {
  test('has another name at once, and is the same image', async () => {
    const first = await run(await serve(), {})
    for (const source of ['image:debian:12', `image:debian@${first.image?.digest}`]) {
      const record = await run(source, { name: 'team/copy', replace: true })
      expect(record).toMatchObject({ state: 'succeeded', source })
      expect(record.image).toMatchObject({ digest: first.image?.digest, sourceBytes: 0 })
    }
    const { blobs } = setup.store.registry.repository('team/copy')
    expect(await blobs.stat(parse(first.image?.layerDigest))).toBeDefined()
    expect(fetched).toBe(1)
  })

  test('that is not there is not found', async () => {
    const record = await run('image:nothing:1', {})
    expect(record.error?.code).toBe('SOURCE_NOT_FOUND')
  })

  test('that no import made is imported as from any registry', async () => {
    const { blobs, manifests } = setup.store.registry.repository('pushed')
    const { signal } = new AbortController()
    const put = async (bytes: Uint8Array) => {
      await using blob = await blobs.create({ signal }).then((writer) => ({
        writer,
        [Symbol.asyncDispose]: () => writer.abort(),
      }))
      await blob.writer.write(bytes)
      const { digest, size } = await blob.writer.finish()
      await blob.writer.commit()
      return { mediaType: 'application/x', digest, size }
    }
    const [config, layer] = [await put(Buffer.from('{}')), await put(file)]
    const manifest = { schemaVersion: 2, config, layers: [layer] }
    const bytes = Buffer.from(JSON.stringify(manifest))
    await manifests.put({ mediaType: mediaTypes.ociManifest, bytes }, { tag: '1', replace: false })
    const record = await run('image:pushed:1', {})
    expect(record).toMatchObject({ state: 'succeeded', image: { virtualSize: smallDisk.length } })
    const imported = await run(await serve(), { name: 'b' })
    expect(record.image?.layerDigest).toBe(imported.image?.layerDigest)
  })
})
