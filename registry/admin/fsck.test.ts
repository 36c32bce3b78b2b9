import { cp, mkdir, readFile, truncate, unlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Digest } from '../../core/digest.ts'
import { createHashPool } from '../../core/hash-pool.ts'
import { createLog } from '../../core/log.ts'
import type { ObjectStore } from '../../core/object-store.ts'
import { fillStore, type FilledStore } from '../../test/fixtures/admin-store.ts'
import { createTempFolder } from '../../test/fixtures/temp-folder.ts'
import { keys } from '../keys.ts'
import { encodeJson, linkRecord, pointerRecord, sessionRecord } from '../records.ts'
import { createStore, defaultPolicy } from '../store.ts'
import { openFolderStore } from '../stores/folder.ts'
import { readVersioned } from '../versioned.ts'
import type { Finding } from './findings.ts'
import { fsck } from './fsck.ts'

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

/** A store to damage, by its objects and as it lies on the disk. */
interface Damaging {
  readonly objects: ObjectStore
  readonly path: string
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

const old = '2020-01-01T00:00:00.000Z'
const repository = 'team/debian'

const dataPath = async ({ objects, path }: Damaging, digest: Digest): Promise<string> => {
  const pointer = await readVersioned(objects, pointerRecord, keys.pointer(digest))
  return join(path, keys.data(pointer?.record.data ?? ''))
}

/** Rewrites an object's text. */
async function edit(
  { objects }: Damaging,
  key: string,
  change: (text: string) => string,
): Promise<void> {
  const stored = await objects.get(key)
  const before = Buffer.from(stored?.bytes ?? []).toString('latin1')
  const after = change(before)
  if (after === before) throw new Error(`${key} is as it was`)
  await objects.put(key, Buffer.from(after, 'latin1'), 'always')
}

async function nonceOf({ objects }: Damaging, name: string, digest: Digest): Promise<string> {
  return (await readVersioned(objects, linkRecord, keys.link(name, digest)))?.record.nonce ?? ''
}

async function sessionOf({ objects }: Damaging) {
  const [key = ''] = await objects.list(keys.uploads, {})
  const found = await readVersioned(objects, sessionRecord, key)
  return { key, data: found?.record.data ?? '' }
}

describe('fsck', () => {
  it('finds nothing in a store that is well, and reads all its bytes', async () => {
    expect(await findingsAfter(async () => {}, { dataDigests: true })).toEqual([])
  })

  const manifestKey = (): string => keys.manifest(repository, filled.image)
  const layerLink = (): string => keys.link(repository, filled.layer)
  const kinds = (found: readonly Finding[]) => found.map(({ kind, key }) => [kind, key])

  /** Does one damage and sees exactly those findings. */
  const damages: readonly [
    string,
    (damaging: Damaging) => Promise<unknown>,
    () => readonly (readonly [string, string])[],
  ][] = [
    [
      'a pointer that is no record',
      ({ objects }) => objects.put(keys.pointer(filled.orphan), Buffer.from('{'), 'always'),
      () => [
        ['record-damaged', keys.pointer(filled.orphan)],
        ['data-orphan', expect.stringMatching(/^v1\/data\//)],
      ],
    ],
    [
      'a link that is no record',
      ({ objects }) => objects.put(layerLink(), Buffer.from('{}'), 'always'),
      () => [['record-damaged', layerLink()]],
    ],
    [
      'a pointer without data',
      async (damaging) => unlink(await dataPath(damaging, filled.wideLayer)),
      () => [['data-missing', keys.pointer(filled.wideLayer)]],
    ],
    [
      'data that is cut short',
      async (damaging) => truncate(await dataPath(damaging, filled.layer), 49_999),
      () => [['data-missing', keys.pointer(filled.layer)]],
    ],
    [
      'segments that do not hold all bytes',
      (damaging) =>
        edit(damaging, keys.pointer(filled.layer), (text) =>
          text.replace('"size":50000', '"size":50000,"segments":[40000]'),
        ),
      () => [['data-missing', keys.pointer(filled.layer)]],
    ],
    [
      'data of nobody',
      async ({ path }) => {
        const file = join(path, keys.data('aa7cca7a-5a3f-4c21-9d3b-3d9d4d1c4a11'))
        await mkdir(dirname(file), { recursive: true })
        await writeFile(file, 'x')
      },
      () => [['data-orphan', keys.data('aa7cca7a-5a3f-4c21-9d3b-3d9d4d1c4a11')]],
    ],
    [
      'data in the folder of another one',
      async ({ path }) => {
        await mkdir(join(path, 'v1/data/00'), { recursive: true })
        await writeFile(join(path, 'v1/data/00/aa7cca7a-5a3f-4c21-9d3b-3d9d4d1c4a11'), 'x')
      },
      () => [['key-unknown', 'v1/data/00/aa7cca7a-5a3f-4c21-9d3b-3d9d4d1c4a11']],
    ],
    [
      'a session whose data is gone',
      async (damaging) => unlink(join(damaging.path, keys.data((await sessionOf(damaging)).data))),
      () => [['session-data-missing', expect.stringMatching(/^v1\/uploads\//)]],
    ],
    [
      'a session that is gone',
      async (damaging) => damaging.objects.delete((await sessionOf(damaging)).key),
      () => [['data-orphan', expect.stringMatching(/^v1\/data\//)]],
    ],
    [
      'a link without its reference',
      async (damaging) => {
        const nonce = await nonceOf(damaging, repository, filled.layer)
        return damaging.objects.delete(keys.reference(filled.layer, repository, nonce))
      },
      () => [['reference-missing', layerLink()]],
    ],
    [
      'an old reference without a link',
      ({ objects }) =>
        objects.put(keys.reference(filled.layer, 'x', 'n'), Buffer.from(old), 'ifAbsent'),
      () => [['reference-orphan', keys.reference(filled.layer, 'x', 'n')]],
    ],
    [
      'a young reference without a link, which is about to come',
      ({ objects }) => {
        const now = Buffer.from(new Date().toISOString())
        return objects.put(keys.reference(filled.layer, 'x', 'n'), now, 'ifAbsent')
      },
      () => [],
    ],
    [
      'a reference to a digest that is none',
      ({ objects }) => objects.put('v1/refs/sha256/ab/abcd/eA/n', Buffer.from(old), 'ifAbsent'),
      () => [['key-unknown', 'v1/refs/sha256/ab/abcd/eA/n']],
    ],
    [
      'links to a blob that is gone, whose data stays',
      ({ objects }) => objects.delete(keys.pointer(filled.wideLayer)),
      () => [
        ['pointer-missing', keys.link('wide', filled.wideLayer)],
        ['data-orphan', expect.stringMatching(/^v1\/data\//)],
      ],
    ],
    [
      'a link to a blob that is dead',
      (damaging) =>
        edit(damaging, keys.pointer(filled.wideLayer), (text) =>
          text.replace('"state":"live"', '"state":"dead"'),
        ),
      () => [['pointer-missing', keys.link('wide', filled.wideLayer)]],
    ],
    [
      'a link of another size, and so its account',
      (damaging) => edit(damaging, layerLink(), (text) => text.replace('50000', '50001')),
      () => [
        ['size-differs', layerLink()],
        ['quota-differs', keys.quota('team/')],
      ],
    ],
    [
      'a manifest that is no record',
      ({ objects }) => objects.put(manifestKey(), Buffer.from('x\n{}'), 'always'),
      () => [['record-damaged', manifestKey()]],
    ],
    [
      'a manifest with other bytes',
      (damaging) => edit(damaging, manifestKey(), (text) => `${text} `),
      () => [
        ['manifest-differs', manifestKey()],
        ['tag-differs', keys.tag(repository, '12')],
      ],
    ],
    [
      'a manifest whose record names other blobs',
      (damaging) =>
        edit(damaging, manifestKey(), (text) => text.replace(/"blobs":\["[^"]+",/, '"blobs":[')),
      () => [['manifest-record-differs', manifestKey()]],
    ],
    [
      'a manifest whose blob is not in its repository',
      async (damaging) => {
        const nonce = await nonceOf(damaging, 'wide', filled.wideLayer)
        await damaging.objects.delete(keys.link('wide', filled.wideLayer))
        await damaging.objects.delete(keys.reference(filled.wideLayer, 'wide', nonce))
      },
      () => [['blob-missing', keys.manifest('wide', filled.wide)]],
    ],
    [
      'an index whose manifest is gone',
      async ({ objects }) => {
        await objects.delete(manifestKey())
        await objects.delete(keys.tag(repository, '12'))
      },
      () => [['child-missing', keys.manifest(repository, filled.index)]],
    ],
    [
      'a manifest that is pending for long',
      async (damaging) => {
        const key = keys.manifest('team/debian/nested', filled.untagged)
        await edit(damaging, key, (text) =>
          text
            .replace('"state":"live"', '"state":"pending"')
            .replace(/"at":"[^"]+"/, `"at":"${old}"`),
        )
      },
      () => [['manifest-unfinished', keys.manifest('team/debian/nested', filled.untagged)]],
    ],
    [
      'a referrer that is not listed',
      ({ objects }) => objects.delete(keys.referrer(repository, filled.image, filled.signature)),
      () => [['referrer-missing', keys.manifest(repository, filled.signature)]],
    ],
    [
      'a referrer that is not there',
      ({ objects }) =>
        objects.put(keys.referrer('wide', filled.wide, filled.image), Buffer.of(), 'ifAbsent'),
      () => [['referrer-orphan', keys.referrer('wide', filled.wide, filled.image)]],
    ],
    [
      'a tag that points to nothing since long',
      (damaging) =>
        edit(damaging, keys.tag(repository, '12'), (text) =>
          text.replace(filled.image, filled.wideLayer).replace(/"at":"[^"]+"/, `"at":"${old}"`),
        ),
      () => [['tag-dangling', keys.tag(repository, '12')]],
    ],
    [
      'a tag that points to nothing since a moment',
      (damaging) =>
        edit(damaging, keys.tag(repository, '12'), (text) =>
          text.replace(filled.image, filled.wideLayer),
        ),
      () => [['tag-young', keys.tag(repository, '12')]],
    ],
    [
      'a tag of a name that is none',
      ({ objects }) => objects.put(keys.tag(repository, '-x'), encodeJson({}), 'ifAbsent'),
      () => [['key-unknown', keys.tag(repository, '-x')]],
    ],
    [
      'files of somebody else, and folders',
      async ({ path }) => {
        await writeFile(join(path, 'v1/repos/team/debian/_t/.nfs 0001'), 'x')
        await mkdir(join(path, 'v1/New folder'))
        await mkdir(join(path, 'lost+found'))
        await writeFile(join(path, 'thesis.txt'), 'x')
      },
      () => [
        ['key-unknown', 'v1/repos/team/debian/_t/.nfs 0001'],
        ['key-unknown', 'thesis.txt'],
        ['key-unknown', 'v1/New folder'],
      ],
    ],
    [
      'another layout',
      ({ objects }) => objects.put('layout.json', encodeJson({ layout: 3 }), 'always'),
      () => [['layout-differs', 'layout.json']],
    ],
    [
      'no layout',
      ({ objects }) => objects.delete('layout.json'),
      () => [['layout-differs', 'layout.json']],
    ],
    [
      'an account that counts other bytes',
      (damaging) =>
        edit(damaging, keys.quota('team/'), (text) => text.replace(/"used":\d+/, '"used":1')),
      () => [['quota-differs', keys.quota('team/')]],
    ],
    [
      'an account that is no record',
      ({ objects }) => objects.put(keys.quota('team/'), Buffer.from('?'), 'always'),
      () => [['record-damaged', keys.quota('team/')]],
    ],
    [
      'a quarantine without its bytes',
      ({ objects }) => {
        const data = 'aa7cca7a-5a3f-4c21-9d3b-3d9d4d1c4a11'
        const bytes = {
          data,
          offset: 0,
          size: 5,
          found: filled.layer,
          why: 'x',
          repositories: [],
          at: old,
        }
        return objects.put(keys.quarantine(filled.image, data), encodeJson(bytes), 'ifAbsent')
      },
      () => [
        [
          'quarantine-data-missing',
          keys.quarantine(filled.image, 'aa7cca7a-5a3f-4c21-9d3b-3d9d4d1c4a11'),
        ],
      ],
    ],
  ]

  it.each(damages)('finds %s', async (_, damage, expected) => {
    const found = await findingsAfter(damage)
    expect(kinds(found)).toEqual(expected())
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
    const found: unknown[] = []
    const parts = { objects, data, hashPool, isFiles: true }
    for await (const event of fsck(parts, { dataDigests: false, signal, confirmAfterMs: 1000 })) {
      if ('progress' in event) await objects.put(manifest, kept?.bytes ?? Buffer.of(), 'always')
      if ('finding' in event) found.push(event.finding)
      if ('report' in event) expect(event.report).toMatchObject({ errors: 0, notes: 0 })
    }
    expect(found).toEqual([])
  })
})
