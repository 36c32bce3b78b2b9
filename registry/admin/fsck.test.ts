import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createHashPool } from '../../core/hash-pool.ts'
import { createLog } from '../../core/log.ts'
import { damages } from '../../test/fixtures/admin-damages.ts'
import { dataPath, type Damaging } from '../../test/fixtures/admin-damaging.ts'
import { fillStore, type FilledStore } from '../../test/fixtures/admin-store.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { keys } from '../keys.ts'
import { encodeJson } from '../records.ts'
import { createStore, defaultPolicy } from '../store.ts'
import { openFolderStore } from '../stores/folder.ts'
import type { Finding } from './findings.ts'
import { fsck, type FsckEvent } from './fsck.ts'

const owned = new AsyncDisposableStack()
const hashPool = owned.use(createHashPool({ threads: 1 }))
const log = createLog('silent')
const { signal } = new AbortController()
const quotas = [{ prefix: 'team/', limitBytes: 1e9 }]
let original: string
let filled: FilledStore

beforeAll(async () => {
  original = owned.use(await createTempFolder()).path
  const storage = await openFolderStore(original, { hashPool, onLost: () => {} })
  const policy = { ...defaultPolicy, quotas }
  await using store = await createStore(storage, { hashPool, log, policy })
  filled = await fillStore(store)
  const upload = await store.uploads.create('team/debian')
  await upload.append({ bytes: bytesOf('half an upload'), at: undefined, expectedBytes: 0 })
  await store.objects.put('v1/imports/some.json', encodeJson({}), 'ifAbsent')
})
afterAll(() => owned.disposeAsync())

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text)
}

/** What fsck finds in a copy of the store that `damage` was done to. */
async function findingsAfter(
  damage: (damaging: Damaging) => Promise<unknown>,
  { dataDigests = false } = {},
): Promise<Finding[]> {
  await using folder = await createTempFolder()
  const path = join(folder.path, 'store')
  await cp(original, path, { recursive: true })
  await using storage = await openFolderStore(path, { hashPool, onLost: () => {} })
  const { objects, data } = storage
  await damage({ objects, path })
  const found: Finding[] = []
  const parts = { objects, data, hashPool, isFiles: true }
  for await (const event of fsck(parts, { dataDigests, signal, confirmAfterMs: 0 })) {
    if ('finding' in event) found.push(event.finding)
  }
  return found
}

describe('fsck', () => {
  it('finds nothing in a store that is well, and reads all its bytes', async () => {
    expect(await findingsAfter(async () => {}, { dataDigests: true })).toEqual([])
  })

  const kinds = (found: readonly Finding[]) => found.map(({ kind, key }) => [kind, key])

  it.each(damages)('finds %s', async (_, damage, expected) => {
    const found = await findingsAfter((damaging) => damage(damaging, filled))
    expect(kinds(found)).toEqual(expected(filled))
    for (const { problem, remedy } of found) expect(problem && remedy).toBeTruthy()
  })

  it('finds bytes that are not the blob with dataDigests only', async () => {
    const flip = async (damaging: Damaging): Promise<void> => {
      const path = await dataPath(damaging, filled.layer)
      const bytes = await readFile(path)
      bytes.writeUInt8(bytes.readUInt8(1234) ^ 1, 1234)
      await writeFile(path, bytes)
    }
    expect(await findingsAfter(flip)).toEqual([])
    expect(kinds(await findingsAfter(flip, { dataDigests: true }))).toEqual([
      ['data-differs', keys.pointer(filled.layer)],
    ])
  })

  it('does not report what passes before it looks again', async () => {
    await using folder = await createTempFolder()
    const path = join(folder.path, 'store')
    await cp(original, path, { recursive: true })
    await using storage = await openFolderStore(path, { hashPool, onLost: () => {} })
    const { objects, data } = storage
    const reference = await objects.get(keys.tag('copy', 'a'))
    const manifest = keys.manifest(
      'copy',
      JSON.parse(Buffer.from(reference?.bytes ?? []).toString()).digest,
    )
    const kept = await objects.get(manifest)
    await objects.delete(manifest)
    const events: FsckEvent[] = []
    const parts = { objects, data, hashPool, isFiles: true }
    for await (const event of fsck(parts, { dataDigests: false, signal, confirmAfterMs: 1000 })) {
      if ('progress' in event) await objects.put(manifest, kept?.bytes ?? Buffer.of(), 'always')
      if (!('progress' in event)) events.push(event)
    }
    expect(events).toMatchObject([{ report: { errors: 0, notes: 0 } }])
  })
})
